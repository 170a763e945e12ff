package builtin

import (
	"net"
	"net/netip"
)

// ipNet turns a prefix into the library's form, host bits kept.
func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefix turns the library's form into a prefix, host bits kept; the zero Prefix
// when it is none.
func prefix(n net.IPNet) netip.Prefix {
	ones, bits := n.Mask.Size()
	a := addr(n.IP)
	if bits == 128 && a.Is4() { // ::ffff:a.b.c.d/n
		ones -= 96
	}
	if bits == 0 || !a.IsValid() || ones < 0 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, ones)
}

// addr turns the library's form into an address, the zero Addr when it is none.
func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// hostPrefix is the prefix of the one address.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
