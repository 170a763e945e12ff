package builtin

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
)

type hostLocalConf struct {
	Name             string               `json:"name"`
	CNIVersion       string               `json:"cniVersion"`
	ValidAttachments []types.GCAttachment `json:"cni.dev/valid-attachments"`
	IPAM             struct {
		jsonRange
		Routes     []*types.Route `json:"routes"`
		DataDir    string         `json:"dataDir"`
		ResolvConf string         `json:"resolvConf"`
		Ranges     [][]jsonRange  `json:"ranges"`
	} `json:"ipam"`
	RuntimeConfig struct {
		IPRanges [][]jsonRange `json:"ipRanges"`
		IPs      []looseAddr   `json:"ips"`
	} `json:"runtimeConfig"`
	Arguments struct {
		CNI struct {
			IPs []looseAddr `json:"ips"`
		} `json:"cni"`
	} `json:"args"`

	sets      []rangeSet
	requested []netip.Addr
}

type jsonRange struct {
	RangeStart net.IP      `json:"rangeStart"`
	RangeEnd   net.IP      `json:"rangeEnd"`
	Subnet     types.IPNet `json:"subnet"`
	Gateway    net.IP      `json:"gateway"`
}

// looseAddr is an address, with or without a prefix length, which host-local
// ignores: the mask is the subnet's.
type looseAddr struct{ netip.Addr }

// UnmarshalText takes "10.0.0.2" and "10.0.0.2/24".
func (l *looseAddr) UnmarshalText(b []byte) (err error) {
	text, _, _ := strings.Cut(string(b), "/")
	l.Addr, err = netip.ParseAddr(text)
	l.Addr = l.Unmap()
	return err
}

func parseHostLocal(config []byte, args string) (*hostLocalConf, error) {
	c := &hostLocalConf{}
	if err := parse("host-local", config, c); err != nil {
		return nil, err
	}
	if err := c.canonicalize(args); err != nil {
		return nil, fmt.Errorf("host-local: configuration: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return c, nil
}

func (c *hostLocalConf) canonicalize(args string) error {
	// The name becomes a directory.
	if err := utils.ValidateNetworkName(c.Name); err != nil {
		return err
	}
	var env struct {
		types.CommonArgs
		IP types.UnmarshallableString
	}
	if err := types.LoadArgs(args, &env); err != nil {
		return err
	}
	if env.IP != "" {
		var l looseAddr
		if err := l.UnmarshalText([]byte(env.IP)); err != nil {
			return err
		}
		c.requested = append(c.requested, l.Addr)
	}
	for _, l := range slices.Concat(c.Arguments.CNI.IPs, c.RuntimeConfig.IPs) {
		c.requested = append(c.requested, l.Addr)
	}
	slices.SortFunc(c.requested, netip.Addr.Compare)
	c.requested = slices.Compact(c.requested)

	// Their order is the number in last_reserved_ip.N: runtime ranges, then the
	// one of the old style, then the list.
	ranges := c.RuntimeConfig.IPRanges
	if c.IPAM.Subnet.IP != nil {
		ranges = append(ranges, []jsonRange{c.IPAM.jsonRange})
	}
	ranges = append(ranges, c.IPAM.Ranges...)
	if len(ranges) == 0 {
		return fmt.Errorf("no IP ranges specified")
	}
	families := map[bool]int{}
	for i, rs := range ranges {
		set, err := newRangeSet(rs)
		if err != nil {
			return fmt.Errorf("invalid range set %d: %w", i, err)
		}
		families[set[0].first.Is4()]++
		for j, other := range c.sets {
			if slices.ContainsFunc(set, other.overlaps) {
				return fmt.Errorf("range set %d overlaps with %d", j, i)
			}
		}
		c.sets = append(c.sets, set)
	}
	if families[true] > 1 || families[false] > 1 {
		if ok, _ := version.GreaterThanOrEqualTo(c.CNIVersion, "0.3.0"); !ok {
			return fmt.Errorf("CNI version %q does not support more than one address per family", c.CNIVersion)
		}
	}
	return nil
}

// addrRange is a part of a subnet, both ends included.
type addrRange struct {
	subnet      netip.Prefix
	first, last netip.Addr
	gateway     netip.Addr
}

// rangeSet is a list of ranges of one family; a pod gets one address out of it.
type rangeSet []addrRange

func newRangeSet(js []jsonRange) (rangeSet, error) {
	if len(js) == 0 {
		return nil, fmt.Errorf("empty range set")
	}
	var set rangeSet
	for _, j := range js {
		r, err := newAddrRange(j)
		if err != nil {
			return nil, err
		}
		if len(set) > 0 && set[0].first.Is4() != r.first.Is4() {
			return nil, fmt.Errorf("mixed address families")
		}
		if set.overlaps(r) {
			return nil, fmt.Errorf("range %s-%s overlaps with another", r.first, r.last)
		}
		set = append(set, r)
	}
	return set, nil
}

func newAddrRange(j jsonRange) (r addrRange, err error) {
	r.subnet = prefix(net.IPNet(j.Subnet))
	switch {
	case !r.subnet.IsValid():
		return r, fmt.Errorf("no subnet")
	case r.subnet.Bits() > r.subnet.Addr().BitLen()-2:
		return r, fmt.Errorf("network %s too small to allocate from", r.subnet)
	case r.subnet != r.subnet.Masked():
		return r, fmt.Errorf("network has host bits set: for a subnet mask of length %d the network address is %s", r.subnet.Bits(), r.subnet.Masked().Addr())
	}
	r.first, r.last = r.subnet.Addr().Next(), lastAddr(r.subnet)
	if r.first.Is4() {
		r.last = r.last.Prev() // not the broadcast address
	}
	r.gateway = r.first
	for _, f := range []struct {
		name string
		ip   net.IP
		to   *netip.Addr
		in   bool
	}{{"rangeStart", j.RangeStart, &r.first, true}, {"rangeEnd", j.RangeEnd, &r.last, true}, {"gateway", j.Gateway, &r.gateway, false}} {
		if f.ip == nil {
			continue
		}
		*f.to = addr(f.ip)
		if f.in && !r.subnet.Contains(*f.to) {
			return r, fmt.Errorf("%s %s not in network %s", f.name, f.ip, r.subnet)
		}
	}
	if r.last.Less(r.first) {
		return r, fmt.Errorf("rangeStart %s is after rangeEnd %s", r.first, r.last)
	}
	return r, nil
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (r addrRange) contains(a netip.Addr) bool {
	return r.subnet.Contains(a) && !a.Less(r.first) && !r.last.Less(a)
}

func (s rangeSet) find(a netip.Addr) int {
	return slices.IndexFunc(s, func(r addrRange) bool { return r.contains(a) })
}

func (s rangeSet) contains(a netip.Addr) bool { return s.find(a) >= 0 }

func (s rangeSet) overlaps(r addrRange) bool {
	return slices.ContainsFunc(s, func(o addrRange) bool {
		return o.contains(r.first) || o.contains(r.last) || r.contains(o.first) || r.contains(o.last)
	})
}
