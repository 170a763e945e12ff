package builtin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/cni/netns"
)

func (c *bridgeConf) check(ctx context.Context, r Request) error {
	if err := c.ipam(ctx, r, Check); err != nil {
		return err
	}
	host, err := openHost()
	if err != nil {
		return err
	}
	defer host.Close()
	br, err := host.LinkByName(c.Bridge)
	if err != nil {
		return fmt.Errorf("bridge %q: %w", c.Bridge, err)
	}
	if promisc := br.Attrs().Promisc != 0; promisc != c.PromiscMode {
		return fmt.Errorf("bridge %q: promiscuous mode is %t: %w", c.Bridge, promisc, errdefs.ErrFailedPrecondition)
	}
	hostEnd, err := checkPair(host, &c.PluginConf, r)
	if err != nil {
		return err
	}
	if hostEnd.Attrs().MasterIndex != br.Attrs().Index {
		return fmt.Errorf("%s is no port of %s: %w", hostEnd.Attrs().Name, c.Bridge, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func (c *ptpConf) check(ctx context.Context, r Request) error {
	if _, err := ipam(ctx, r, c.IPAM.Type, Check); err != nil {
		return err
	}
	host, err := openHost()
	if err != nil {
		return err
	}
	defer host.Close()
	_, err = checkPair(host, &c.PluginConf, r)
	return err
}

// checkPair compares the pod's end with the result of ADD and returns the
// host's end, whichever plugin made it.
func checkPair(host *hostSide, conf *types.PluginConf, r Request) (netlink.Link, error) {
	res, err := previous(conf.Type, conf)
	if err == nil && res == nil {
		err = fmt.Errorf("prevResult is missing: %w", errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(res.Interfaces, func(i *current.Interface) bool { return i.Name == r.IfName && i.Sandbox == r.Netns })
	if i < 0 {
		return nil, fmt.Errorf("prevResult has no %s in %s: %w", r.IfName, r.Netns, errdefs.ErrInvalidArgument)
	}
	err = inPod(r.Netns, func(h *netlink.Handle) error {
		l, err := h.LinkByName(r.IfName)
		if err != nil {
			return err
		}
		if mac := res.Interfaces[i].Mac; l.Type() != "veth" || mac != "" && mac != l.Attrs().HardwareAddr.String() {
			return fmt.Errorf("%s is a %s with MAC %s, not a veth with %s: %w", r.IfName, l.Type(), l.Attrs().HardwareAddr, mac, errdefs.ErrFailedPrecondition)
		}
		return errors.Join(checkAddrs(h, l, res), checkRoutes(h, res))
	})
	if err != nil {
		return nil, fmt.Errorf("in the pod: %w", err)
	}
	return peerOf(host, r)
}

// peerOf is the host's end of the pod's interface, whichever plugin made it.
func peerOf(host *hostSide, r Request) (netlink.Link, error) {
	index := 0
	err := inPod(r.Netns, func(h *netlink.Handle) error {
		l, err := h.LinkByName(r.IfName)
		if err == nil {
			index = l.Attrs().ParentIndex
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find %s in the pod: %w", r.IfName, err)
	}
	l, err := host.LinkByIndex(index)
	if err != nil || l.Type() != "veth" {
		return nil, fmt.Errorf("the host end of %s, index %d: %w", r.IfName, index, errors.Join(err, errdefs.ErrNotFound))
	}
	return l, nil
}

// inPod runs fn inside a pod, with a netlink socket there.
func inPod(path string, fn func(h *netlink.Handle) error) error {
	return netns.Do(path, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		return fn(h)
	})
}

func checkAddrs(h *netlink.Handle, l netlink.Link, res Result) error {
	have, err := h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, ip := range res.IPs {
		if ip.Interface != nil && *ip.Interface >= 0 && *ip.Interface < len(res.Interfaces) &&
			res.Interfaces[*ip.Interface].Name != l.Attrs().Name {
			continue
		}
		want := prefix(ip.Address)
		if !slices.ContainsFunc(have, func(a netlink.Addr) bool { return prefix(*a.IPNet) == want }) {
			return fmt.Errorf("%s has not the address %s: %w", l.Attrs().Name, want, errdefs.ErrNotFound)
		}
	}
	return nil
}

func checkRoutes(h *netlink.Handle, res Result) error {
	have, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, want := range res.Routes {
		if !slices.ContainsFunc(have, func(r netlink.Route) bool {
			return destination(r) == prefix(want.Dst).Masked() && (want.GW == nil || addr(want.GW) == addr(r.Gw))
		}) {
			return fmt.Errorf("no route to %s via %s: %w", &want.Dst, want.GW, errdefs.ErrNotFound)
		}
	}
	return nil
}

func destination(r netlink.Route) netip.Prefix {
	if r.Dst != nil {
		return prefix(*r.Dst).Masked()
	}
	if r.Family == netlink.FAMILY_V4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}
