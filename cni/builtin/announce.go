package builtin

import (
	"encoding/binary"
	"log/slog"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// announce tells the neighbours, from inside the pod, which MAC the addresses
// have now: a gratuitous ARP for IPv4, an unsolicited neighbour advertisement
// for IPv6. Without it a neighbour that knew another holder of an address went
// on talking to that one for as long as a stale entry lives. A failure is not
// the pod's: the neighbours find out by themselves, only later.
func announce(link netlink.Link, addrs []netip.Prefix) {
	mac := [6]byte(link.Attrs().HardwareAddr)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // protocol 0: send only
	if err != nil {
		slog.Warn("cannot announce the pod's addresses", "error", err)
		return
	}
	// Closing a packet socket waits for the kernel's readers: 10 ms.
	defer func() { go unix.Close(fd) }()
	for _, a := range addrs {
		frame := gratuitousARP(mac, a.Addr())
		if a.Addr().Is6() {
			frame = neighbourAdvertisement(mac, a.Addr())
		}
		to := &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6}
		copy(to.Addr[:], frame[:6])
		if err := unix.Sendto(fd, frame, 0, to); err != nil {
			slog.Warn("cannot announce the pod's address", "address", a, "error", err)
		}
	}
}

// gratuitousARP is an ARP request for the own address (RFC 5227, section 3).
func gratuitousARP(mac [6]byte, a netip.Addr) []byte {
	broadcast := [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	f := ethernet(broadcast, mac, unix.ETH_P_ARP)
	f = append(f, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, sizes, request
	f = append(f, mac[:]...)
	f = append(f, a.AsSlice()...)
	f = append(f, 0, 0, 0, 0, 0, 0)
	return append(f, a.AsSlice()...)
}

// neighbourAdvertisement is unsolicited, to all nodes, and overrides what they
// have cached (RFC 4861, sections 4.4 and 7.2.6).
func neighbourAdvertisement(mac [6]byte, a netip.Addr) []byte {
	allNodes := netip.MustParseAddr("ff02::1")
	const override = 0x20
	body := []byte{136, 0, 0, 0, override, 0, 0, 0} // type, code, checksum
	body = append(body, a.AsSlice()...)
	body = append(body, 2, 1) // option: target link-layer address, in units of 8 bytes
	body = append(body, mac[:]...)
	binary.BigEndian.PutUint16(body[2:], icmp6Checksum(a, allNodes, body))

	f := ethernet([6]byte{0x33, 0x33, 0, 0, 0, 1}, mac, unix.ETH_P_IPV6)
	f = append(f, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(body)))
	f = append(f, unix.IPPROTO_ICMPV6, 255) // the receiver drops any other hop limit
	f = append(f, a.AsSlice()...)
	f = append(f, allNodes.AsSlice()...)
	return append(f, body...)
}

func ethernet(to, from [6]byte, protocol uint16) []byte {
	f := append(to[:], from[:]...)
	return binary.BigEndian.AppendUint16(f, protocol)
}

func icmp6Checksum(from, to netip.Addr, body []byte) uint16 {
	b := append(from.AsSlice(), to.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, 0, 0, 0, unix.IPPROTO_ICMPV6)
	b = append(b, body...)
	sum := uint32(0)
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
