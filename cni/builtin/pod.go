package builtin

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/cni/netns"
	"github.com/berth-cri/berth/linux/namespace"
)

// podEnd says what the pod's end of a veth pair gets.
type podEnd struct {
	veth
	addrs []netip.Prefix
	down  bool // leave it to others to set it up
	// pointToPoint leaves out the route to the subnet that comes with an address.
	pointToPoint bool
	dad          bool // let the kernel look for duplicates of IPv6 addresses
	routes       []netlink.Route
}

// attached is a pair that works.
type attached struct {
	host   netlink.Link
	podMAC string
}

// attach makes the pair and configures the pod's end. On error the pair is gone.
func (p *podEnd) attach(host *hostSide, ns *netns.NS) (*attached, error) {
	p.veth.netns = ns.Fd()
	if err := p.veth.create(host); err != nil {
		return nil, err
	}
	if p.master == 0 {
		ownLink(p.veth.host)
	}
	var a *attached
	err := ns.Do(func() (err error) {
		a, err = p.configure(host)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, host.remove(p.veth.host))
	}
	return a, nil
}

// configure runs inside the pod's namespace.
func (p *podEnd) configure(host *hostSide) (*attached, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink in the pod: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(p.pod)
	if err != nil {
		return nil, fmt.Errorf("find %s in the pod: %w", p.pod, err)
	}
	a := &attached{podMAC: link.Attrs().HardwareAddr.String()}
	if p.down {
		a.host, err = host.LinkByName(p.veth.host)
		return a, err
	}
	p.sysctls()
	for _, a := range p.addrs {
		if err := p.addAddr(h, link, a); err != nil {
			return nil, fmt.Errorf("add %s to %s: %w", a, p.pod, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set %s up: %w", p.pod, err)
	}
	if p.dad {
		if err := settle(h, link); err != nil {
			return nil, err
		}
	}
	for _, r := range p.routes {
		r.LinkIndex = link.Attrs().Index
		if err := h.RouteAddEcmp(&r); err != nil {
			return nil, fmt.Errorf("add route to %v via %v on %s: %w", r.Dst, r.Gw, p.pod, err)
		}
	}
	if p.master == 0 {
		if err := host.setFlags(p.veth.host, unix.IFF_UP); err != nil {
			return nil, err
		}
	}
	if a.host, err = host.waitUp(p.veth.host); err != nil {
		return nil, err
	}
	announce(link, p.addrs)
	return a, nil
}

// sysctls are set before the interface comes up. Best effort, as in the reference
// plugin: the kernel may be without IPv6.
func (p *podEnd) sysctls() {
	// Without duplicate address detection: every address is handed out once, and
	// a tentative one would be of no use for a second or two.
	dad := "0"
	if p.dad {
		dad = "1"
		_ = namespace.SetSysctl("net/ipv6/conf/"+p.pod+"/enhanced_dad", "1")
	}
	_ = namespace.SetSysctl("net/ipv6/conf/"+p.pod+"/accept_dad", dad)
	// Announce the address whenever the interface comes up again.
	_ = namespace.SetSysctl("net/ipv4/conf/"+p.pod+"/arp_notify", "1")
}

func (p *podEnd) addAddr(h *netlink.Handle, link netlink.Link, a netip.Prefix) error {
	n := ipNet(a)
	na := &netlink.Addr{IPNet: &n}
	if p.pointToPoint {
		na.Flags |= unix.IFA_F_NOPREFIXROUTE
	}
	if a.Addr().Is4() {
		return h.AddrAdd(link, na)
	}
	if !p.dad {
		na.Flags |= unix.IFA_F_NODAD
	}
	// The pod may take its interface down and up without losing the address.
	_ = namespace.SetSysctl("net/ipv6/conf/"+p.pod+"/keep_addr_on_down", "1")
	err := h.AddrAdd(link, na)
	if errors.Is(err, unix.EACCES) {
		// A pod that was given an IPv6 address gets IPv6, whatever the sysctl
		// it started with.
		for _, name := range []string{"lo", p.pod} {
			if err := namespace.SetSysctl("net/ipv6/conf/"+name+"/disable_ipv6", "0"); err != nil {
				return err
			}
		}
		err = h.AddrAdd(link, na)
	}
	return err
}

// settle waits until the kernel has found no duplicate of the IPv6 addresses.
func settle(h *netlink.Handle, link netlink.Link) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		addrs, err := h.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
		}
		tentative := false
		for _, a := range addrs {
			if a.Flags&unix.IFA_F_DADFAILED != 0 {
				return fmt.Errorf("%s: address %s is used by another host: %w", link.Attrs().Name, a.IPNet, errdefs.ErrAlreadyExists)
			}
			tentative = tentative || a.Flags&unix.IFA_F_TENTATIVE != 0
		}
		if !tentative {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: addresses still tentative after 5 s: %w", link.Attrs().Name, errdefs.ErrUnavailable)
		}
	}
}

// routesOf turns the routes of a result into the pod's. A route without a
// gateway goes through the first one of its family.
func routesOf(res Result) []netlink.Route {
	gateway := map[bool]netip.Addr{}
	for _, ip := range res.IPs {
		gw := addr(ip.Gateway)
		if _, ok := gateway[gw.Is4()]; !ok && gw.IsValid() {
			gateway[gw.Is4()] = gw
		}
	}
	var out []netlink.Route
	for _, r := range res.Routes {
		out = append(out, routeOf(r, gateway[addr(r.Dst.IP).Is4()]))
	}
	return out
}

func routeOf(r *types.Route, gateway netip.Addr) netlink.Route {
	dst := r.Dst
	out := netlink.Route{Dst: &dst, Gw: r.GW, MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority}
	if r.GW == nil && gateway.IsValid() {
		out.Gw = gateway.AsSlice()
	}
	if r.Table != nil {
		out.Table = *r.Table
	}
	if r.Scope != nil {
		out.Scope = netlink.Scope(*r.Scope)
		if out.Scope != netlink.SCOPE_UNIVERSE && r.GW == nil {
			out.Gw = nil // a link route has no gateway
		}
	}
	return out
}
