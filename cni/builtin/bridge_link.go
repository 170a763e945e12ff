package builtin

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ensureBridge finds the bridge, or makes it.
func (c *bridgeConf) ensureBridge(host *hostSide) (*netlink.Bridge, error) {
	l, err := host.LinkByName(c.Bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		l, err = c.makeBridge(host)
	}
	if err != nil {
		return nil, err
	}
	br, ok := l.(*netlink.Bridge)
	if !ok {
		return nil, fmt.Errorf("exists and is a %s: %w", l.Type(), errdefs.ErrFailedPrecondition)
	}
	if br.Attrs().Flags&net.FlagUp == 0 {
		if err := host.LinkSetUp(br); err != nil {
			return nil, fmt.Errorf("set up: %w", err)
		}
	}
	if c.PromiscMode && br.Attrs().Promisc == 0 {
		if err := host.SetPromiscOn(br); err != nil {
			return nil, fmt.Errorf("set promiscuous mode: %w", err)
		}
	}
	return br, nil
}

func (c *bridgeConf) makeBridge(host *hostSide) (netlink.Link, error) {
	// A MAC of its own: else the bridge takes the lowest one of its ports and
	// changes it as pods come and go.
	mac := make(net.HardwareAddr, 6)
	if _, err := rand.Read(mac); err != nil {
		return nil, err
	}
	mac[0] = mac[0]&^1 | 2
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = c.Bridge, c.MTU, mac
	if err := host.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("create: %w", err)
	}
	ownLink(c.Bridge)
	return host.LinkByName(c.Bridge)
}

// ensureAddr gives a link an address. Another one that it has in the way is an
// error, or with force removed.
func ensureAddr(host *hostSide, l netlink.Link, a netip.Prefix, force bool) error {
	if !a.IsValid() {
		return fmt.Errorf("no address: %w", errdefs.ErrInvalidArgument)
	}
	n := ipNet(a)
	na := &netlink.Addr{IPNet: &n}
	if a.Addr().Is6() {
		na.Flags = unix.IFA_F_NODAD // pods need their gateway now
	}
	err := host.AddrAdd(l, na)
	if errors.Is(err, unix.EEXIST) {
		return nil // every pod after the first
	}
	if err != nil {
		return err
	}
	family := netlink.FAMILY_V6
	if a.Addr().Is4() {
		family = netlink.FAMILY_V4
	}
	all, err := host.AddrList(l, family)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return err
	}
	for _, o := range all {
		other := prefix(*o.IPNet)
		// Several IPv6 subnets may share a bridge, several of IPv4 not.
		if other == a || o.LinkIndex != l.Attrs().Index || a.Addr().Is6() && !other.Overlaps(a) {
			continue
		}
		if !force {
			return errors.Join(
				fmt.Errorf("already has the address %s: %w", other, errdefs.ErrFailedPrecondition),
				host.AddrDel(l, na))
		}
		if err := host.AddrDel(l, &o); err != nil {
			return fmt.Errorf("remove %s: %w", other, err)
		}
	}
	return nil
}

// withDefault adds a default route unless there is one.
func withDefault(routes []*types.Route, is4 bool, gw net.IP) []*types.Route {
	dst := ipNet(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
	if is4 {
		dst = ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	for _, r := range routes {
		if r.GW != nil && r.Dst.String() == dst.String() {
			return routes
		}
	}
	return append(routes, &types.Route{Dst: dst, GW: gw})
}
