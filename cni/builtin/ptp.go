package builtin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/cni/netns"
)

type ptpConf struct {
	types.PluginConf
	IPMasq        bool   `json:"ipMasq"`
	IPMasqBackend string `json:"ipMasqBackend"`
	MTU           int    `json:"mtu"`
}

// ptp connects a pod to the host by a veth pair and routes.
func ptp(ctx context.Context, r Request) (res Result, err error) {
	var conf ptpConf
	if err := parse("ptp", r.Config, &conf); err != nil {
		return nil, err
	}
	if conf.IPMasqBackend != "" && conf.IPMasqBackend != "nftables" {
		return nil, &Unsupported{"ptp", "ipMasqBackend " + conf.IPMasqBackend}
	}
	switch r.Command {
	case Add:
		res, err = conf.add(ctx, r)
	case Del:
		err = conf.del(ctx, r)
	case Check:
		err = conf.check(ctx, r)
	case GC:
		_, ipamErr := ipam(ctx, r, conf.IPAM.Type, GC)
		err = errors.Join(gcMasquerade(conf.Name, owners(conf.Name, conf.ValidAttachments)), ipamErr)
	case Status:
		_, err = ipam(ctx, r, conf.IPAM.Type, Status)
	default:
		err = unknownCommand("ptp", r.Command)
	}
	if err != nil {
		return nil, fmt.Errorf("ptp: %w", err)
	}
	return res, nil
}

func (c *ptpConf) add(ctx context.Context, r Request) (_ Result, err error) {
	ns, err := netns.Open(r.Netns)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	host, err := openHost()
	if err != nil {
		return nil, err
	}
	defer host.Close()
	res, err := ipam(ctx, r, c.IPAM.Type, Add)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_, ipamErr := ipam(context.WithoutCancel(ctx), r, c.IPAM.Type, Del)
			err = errors.Join(err, ipamErr)
		}
	}()
	pod := podEnd{
		veth:         veth{host: hostEnd(c.Name, r.ContainerID, r.IfName), pod: r.IfName, mtu: c.MTU},
		pointToPoint: true,
	}
	if err := c.plan(&pod, res); err != nil {
		return nil, err
	}
	if err := forward(pod.addrs); err != nil {
		return nil, err
	}
	link, err := pod.attach(host, ns)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, host.remove(pod.host))
		}
	}()
	if err := setupHostEnd(host, link.host, res); err != nil {
		return nil, fmt.Errorf("set up %s: %w", pod.host, err)
	}
	if c.IPMasq {
		if err := masquerade(pod.addrs, owner(c.Name, r.ContainerID, r.IfName)); err != nil {
			return nil, err
		}
	}
	res.Interfaces = []*current.Interface{
		{Name: pod.host, Mac: link.host.Attrs().HardwareAddr.String()},
		{Name: r.IfName, Mac: link.podMAC, Sandbox: r.Netns},
	}
	for _, ip := range res.IPs {
		ip.Interface = current.Int(1)
	}
	if dnsIsSet(c.DNS) {
		res.DNS = c.DNS
	}
	return res, nil
}

// plan fills in the pod's addresses and routes. Everything but the gateway is
// beyond the gateway, the subnet too: the link has two ends only.
func (c *ptpConf) plan(pod *podEnd, res Result) error {
	for _, ip := range res.IPs {
		a, gw := prefix(ip.Address), addr(ip.Gateway)
		if !a.IsValid() || !gw.IsValid() {
			return fmt.Errorf("ipam: address %v with gateway %v: both are needed: %w", ip.Address, ip.Gateway, errdefs.ErrInvalidArgument)
		}
		pod.addrs = append(pod.addrs, a)
		near, subnet := ipNet(hostPrefix(gw)), ipNet(a.Masked())
		pod.routes = append(pod.routes,
			netlink.Route{Dst: &near, Scope: netlink.SCOPE_LINK, Src: a.Addr().AsSlice()},
			netlink.Route{Dst: &subnet, Gw: gw.AsSlice(), Src: a.Addr().AsSlice()})
	}
	if len(pod.addrs) == 0 {
		return fmt.Errorf("ipam: no address in the result: %w", errdefs.ErrInvalidArgument)
	}
	pod.podMAC = macOf(pod.addrs[0].Addr())
	pod.routes = append(pod.routes, routesOf(res)...)
	return nil
}

func setupHostEnd(host *hostSide, l netlink.Link, res Result) error {
	for _, ip := range res.IPs {
		gw, pod := ipNet(hostPrefix(addr(ip.Gateway))), ipNet(hostPrefix(addr(ip.Address.IP)))
		na := &netlink.Addr{IPNet: &gw}
		if addr(ip.Gateway).Is6() {
			na.Flags = unix.IFA_F_NODAD
		}
		if err := host.AddrAdd(l, na); err != nil {
			return fmt.Errorf("add %s: %w", &gw, err)
		}
		// Not of host scope: such a route stays when the link goes down.
		route := &netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: &pod}
		if err := host.RouteReplace(route); err != nil {
			return fmt.Errorf("route to %s: %w", &pod, err)
		}
	}
	return nil
}

func (c *ptpConf) del(ctx context.Context, r Request) error {
	host, err := openHost()
	if err != nil {
		return err
	}
	defer host.Close()
	prev, err := previous("ptp", &c.PluginConf)
	if err != nil {
		prev = nil // then what is ours is found by its owner
	}
	// Its routes go with it.
	if err := errors.Join(host.setDown(hostEnd(c.Name, r.ContainerID, r.IfName)), host.downOthers(prev)); err != nil {
		return err
	}
	if c.IPMasq {
		var addrs []netip.Prefix
		if prev != nil {
			for _, ip := range prev.IPs {
				addrs = append(addrs, prefix(ip.Address))
			}
		}
		if err := unmasquerade(addrs, owner(c.Name, r.ContainerID, r.IfName)); err != nil {
			return err
		}
	}
	_, err = ipam(ctx, r, c.IPAM.Type, Del)
	return err
}
