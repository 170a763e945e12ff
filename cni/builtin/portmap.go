package builtin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// portmap opens ports of the host that lead into the pod.
func portmap(_ context.Context, r Request) (Result, error) {
	conf, err := parsePortmap(r.Config)
	if err != nil {
		return nil, err
	}
	var res Result
	by := owner(conf.Name, r.ContainerID, r.IfName)
	switch r.Command {
	case Add:
		res, err = conf.add(r, by)
	case Del:
		err = conf.del(by)
	case Check:
		err = conf.check(r, by)
	case GC:
		keep := owners(conf.Name, conf.ValidAttachments)
		err = removeWhere(portRules.sets, func(comment string) bool { return stale(conf.Name, comment, keep) })
	case Status:
	default:
		err = unknownCommand("portmap", r.Command)
	}
	if err != nil {
		return nil, fmt.Errorf("portmap: %w", err)
	}
	return res, nil
}

func (c *portmapConf) add(r Request, by string) (Result, error) {
	res, err := previous("portmap", &c.PluginConf)
	if err == nil && res == nil {
		err = fmt.Errorf("must be called as chained plugin: %w", errdefs.ErrInvalidArgument)
	}
	if err != nil || len(c.ports) == 0 {
		return res, err
	}
	pods := podAddrs(res, r.IfName)
	if err := c.open(pods, by); err != nil {
		return nil, errors.Join(err, c.del(by))
	}
	return res, nil
}

func (c *portmapConf) open(pods []netip.Prefix, by string) error {
	for _, pod := range pods {
		if c.snat() && pod.Addr().Is4() {
			if err := routeLocalnet(pod.Addr(), by); err != nil {
				return err
			}
		}
		if err := c.openFamily(pod, by); err != nil {
			return err
		}
		c.forgetUDP(pod.Addr())
	}
	return nil
}

func (c *portmapConf) openFamily(pod netip.Prefix, by string) error {
	s := portSetsOf(pod.Addr())
	err := portRules.apply(func(conn *nftables.Conn) error {
		for _, p := range c.ports {
			if !p.of(pod.Addr().Is4()) {
				continue
			}
			set, key := s.portKey(p)
			err := conn.SetAddElements(set, []nftables.SetElement{{Key: key, Val: target(pod.Addr(), p.pod), Comment: by}})
			if err != nil {
				return err
			}
		}
		return conn.SetAddElements(s.snat, c.masqueraded(pod, by))
	})
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		return c.conflict(pod, by, err)
	}
	if err != nil {
		return fmt.Errorf("open %v for %s: %w", c.ports, pod.Addr(), err)
	}
	return nil
}

// masqueraded are the elements of snat: who has to look like the host.
func (c *portmapConf) masqueraded(pod netip.Prefix, by string) []nftables.SetElement {
	from := []netip.Prefix{pod.Masked()}
	all := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if pod.Addr().Is4() {
		from = append(from, netip.MustParsePrefix("127.0.0.0/8"))
		all = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	switch {
	case !c.snat():
		return nil
	case c.MasqAll:
		from = []netip.Prefix{all}
	}
	var out []nftables.SetElement
	for _, f := range from {
		out = append(out, nftables.SetElement{
			Key:     append(pod.Addr().AsSlice(), f.Addr().AsSlice()...),
			KeyEnd:  append(pod.Addr().AsSlice(), lastAddr(f).AsSlice()...),
			Comment: by,
		})
	}
	return out
}

// conflict tells who has the port, for the one who has to find out.
func (c *portmapConf) conflict(pod netip.Prefix, by string, cause error) error {
	s := portSetsOf(pod.Addr())
	for _, p := range c.ports {
		set, key := s.portKey(p)
		all, err := elements(set)
		if err != nil {
			return errors.Join(cause, err)
		}
		for _, e := range all {
			if bytes.Equal(e.Key, key) && e.Comment != by {
				return fmt.Errorf("host port %s is taken by %q: %w", p, e.Comment, errdefs.ErrAlreadyExists)
			}
		}
	}
	return fmt.Errorf("open %v for %s: %w", c.ports, pod.Addr(), cause)
}

// del closes what the owner opened, whatever the configuration says now.
func (c *portmapConf) del(by string) error {
	if len(c.ports) == 0 {
		return nil
	}
	return removeWhere(portRules.sets, func(comment string) bool { return comment == by })
}

func (c *portmapConf) check(r Request, by string) error {
	res, err := previous("portmap", &c.PluginConf)
	if err != nil {
		return err
	}
	if res == nil {
		return fmt.Errorf("prevResult is missing: %w", errdefs.ErrInvalidArgument)
	}
	for _, pod := range podAddrs(res, r.IfName) {
		s := portSetsOf(pod.Addr())
		for _, p := range c.ports {
			if !p.of(pod.Addr().Is4()) {
				continue
			}
			set, key := s.portKey(p)
			all, err := elements(set)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(all, func(e nftables.SetElement) bool {
				return bytes.Equal(e.Key, key) && bytes.Equal(e.Val, target(pod.Addr(), p.pod)) && e.Comment == by
			}) {
				return fmt.Errorf("host port %s does not lead to %s: %w", p, pod.Addr(), errdefs.ErrNotFound)
			}
		}
	}
	return nil
}

// podAddrs are the first address of each family on the pod's interface.
func podAddrs(res Result, ifName string) []netip.Prefix {
	var out []netip.Prefix
	for _, ip := range res.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(res.Interfaces) &&
			(res.Interfaces[*i].Name != ifName || res.Interfaces[*i].Sandbox == "") {
			continue
		}
		p := prefix(ip.Address)
		if p.IsValid() && !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Addr().Is4() == p.Addr().Is4() }) {
			out = append(out, p)
		}
	}
	return out
}

// routeLocalnet lets the host reach the pod from 127.0.0.1, and nobody else
// reach 127.0.0.1 (see the guard).
func routeLocalnet(pod netip.Addr, by string) error {
	routes, err := netlink.RouteGet(pod.AsSlice())
	if err != nil || len(routes) == 0 {
		return fmt.Errorf("find the way to %s: %w", pod, err)
	}
	l, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return fmt.Errorf("find the way to %s: %w", pod, err)
	}
	if l.Type() == "bridge" {
		by = "" // other pods need it too, and it stays as long as the sysctl does
	}
	// The guard before the gap.
	err = portRules.apply(func(c *nftables.Conn) error {
		return c.SetAddElements(localnet, []nftables.SetElement{{Key: ifKey(l.Attrs().Name), Comment: by}})
	})
	if err != nil {
		return fmt.Errorf("guard 127.0.0.0/8 on %s: %w", l.Attrs().Name, err)
	}
	if err := setSysctl("net/ipv4/conf/"+l.Attrs().Name+"/route_localnet", "1"); err != nil {
		return fmt.Errorf("host ports on 127.0.0.1: %w", err)
	}
	return nil
}

// forgetUDP drops what connection tracking knows of the UDP ports: a client that
// keeps sending would else be led to the pod that had the port before. Best
// effort, as in the reference plugin.
func (c *portmapConf) forgetUDP(pod netip.Addr) {
	is := netlink.InetFamily(unix.AF_INET6)
	if pod.Is4() {
		is = unix.AF_INET
	}
	var filters []netlink.CustomConntrackFilter
	for _, p := range c.ports {
		if p.protocol != unix.IPPROTO_UDP || !p.of(pod.Is4()) {
			continue
		}
		f := &netlink.ConntrackFilter{}
		if err := errors.Join(f.AddProtocol(unix.IPPROTO_UDP), f.AddPort(netlink.ConntrackOrigDstPort, p.host)); err == nil {
			filters = append(filters, f)
		}
	}
	if len(filters) == 0 {
		return
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, is, filters...); err != nil {
		slog.Warn("cannot drop old UDP connections of host ports", "pod", pod, "error", err)
	}
}
