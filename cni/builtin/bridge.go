package builtin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/berth-cri/berth/cni/netns"
)

// bridge connects a pod to a bridge of the host by a veth pair.
func bridge(ctx context.Context, r Request) (Result, error) {
	conf, err := parseBridge(r)
	if err != nil {
		return nil, err
	}
	var res Result
	switch r.Command {
	case Add:
		res, err = conf.add(ctx, r)
	case Del:
		err = conf.del(ctx, r)
	case Check:
		err = conf.check(ctx, r)
	case GC:
		err = conf.gc(ctx, r)
	case Status:
		err = conf.ipam(ctx, r, Status)
	default:
		err = unknownCommand("bridge", r.Command)
	}
	if err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	return res, nil
}

func (c *bridgeConf) ipam(ctx context.Context, r Request, command string) error {
	if c.IPAM.Type == "" {
		return nil
	}
	_, err := ipam(ctx, r, c.IPAM.Type, command)
	return err
}

func (c *bridgeConf) add(ctx context.Context, r Request) (_ Result, err error) {
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
	br, err := c.ensureBridge(host)
	if err != nil {
		return nil, fmt.Errorf("bridge %q: %w", c.Bridge, err)
	}

	res := &current.Result{CNIVersion: current.ImplementedSpecVersion}
	pod := podEnd{
		veth: veth{
			host: hostEnd(c.Name, r.ContainerID, r.IfName), pod: r.IfName,
			podMAC: c.mac, mtu: c.MTU, master: br.Attrs().Index,
		},
		down: c.DisableContainerInterface,
		dad:  c.EnableDAD,
	}
	if c.IPAM.Type != "" {
		if res, err = ipam(ctx, r, c.IPAM.Type, Add); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, c.ipam(context.WithoutCancel(ctx), r, Del))
			}
		}()
		if pod.addrs, err = c.addresses(res); err != nil {
			return nil, err
		}
		if err := c.gateway(host, br, res); err != nil {
			return nil, err
		}
		pod.routes = routesOf(res)
		if pod.podMAC == nil {
			pod.podMAC = macOf(pod.addrs[0].Addr())
		}
	}
	link, err := pod.attach(host, ns)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.detach(host, r, pod.addrs), host.remove(pod.host))
		}
	}()
	if err := c.port(host, link, owner(c.Name, r.ContainerID, r.IfName)); err != nil {
		return nil, err
	}
	if c.IPMasq {
		if err := masquerade(pod.addrs, owner(c.Name, r.ContainerID, r.IfName)); err != nil {
			return nil, err
		}
	}

	res.Interfaces = []*current.Interface{
		{Name: c.Bridge, Mac: br.Attrs().HardwareAddr.String()},
		{Name: pod.host, Mac: link.host.Attrs().HardwareAddr.String()},
		{Name: r.IfName, Mac: link.podMAC, Sandbox: r.Netns},
	}
	for _, ip := range res.IPs {
		ip.Interface = current.Int(2)
	}
	if dnsIsSet(c.DNS) {
		res.DNS = c.DNS
	}
	return res, nil
}

// addresses are the pod's; gateways and the default route are filled in.
func (c *bridgeConf) addresses(res Result) ([]netip.Prefix, error) {
	var out []netip.Prefix
	routed := map[bool]bool{} // by whether the family is IPv4
	for _, ip := range res.IPs {
		p := prefix(ip.Address)
		if !p.IsValid() {
			return nil, fmt.Errorf("ipam: address %v: %w", ip.Address, errdefs.ErrInvalidArgument)
		}
		out = append(out, p)
		if ip.Gateway == nil && c.IsGateway {
			ip.Gateway = p.Masked().Addr().Next().AsSlice()
		}
		is4 := p.Addr().Is4()
		if !c.IsDefaultGateway || routed[is4] {
			continue
		}
		routed[is4] = true
		res.Routes = withDefault(res.Routes, is4, ip.Gateway)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("ipam: no address in the result: %w", errdefs.ErrInvalidArgument)
	}
	return out, nil
}

// gateway gives the bridge the gateways' addresses and makes the host forward.
func (c *bridgeConf) gateway(host *hostSide, br netlink.Link, res Result) error {
	if !c.IsGateway {
		return nil
	}
	var gws []netip.Prefix
	for _, ip := range res.IPs {
		gw := netip.PrefixFrom(addr(ip.Gateway), prefix(ip.Address).Bits())
		if err := ensureAddr(host, br, gw, c.ForceAddress); err != nil {
			return fmt.Errorf("gateway %s on %s: %w", gw, c.Bridge, err)
		}
		gws = append(gws, gw)
	}
	return forward(gws)
}

// port sets what cannot be said when the pair is made.
func (c *bridgeConf) port(host *hostSide, link *attached, by string) error {
	name := link.host.Attrs().Name
	if c.HairpinMode {
		if err := host.LinkSetHairpin(link.host, true); err != nil {
			return fmt.Errorf("set hairpin mode of %s: %w", name, err)
		}
	}
	if c.PortIsolation {
		if err := host.LinkSetIsolated(link.host, true); err != nil {
			return fmt.Errorf("isolate %s: %w", name, err)
		}
	}
	if c.MACSpoofCheck {
		return pinMAC(name, link.podMAC, by)
	}
	return nil
}

func (c *bridgeConf) del(ctx context.Context, r Request) error {
	host, err := openHost()
	if err != nil {
		return err
	}
	defer host.Close()
	prev, err := previous("bridge", &c.PluginConf)
	if err != nil {
		prev = nil // then what is ours is found by its owner
	}
	var addrs []netip.Prefix
	if prev != nil {
		for _, ip := range prev.IPs {
			addrs = append(addrs, prefix(ip.Address))
		}
	}
	if err := errors.Join(c.detach(host, r, addrs), host.downOthers(prev)); err != nil {
		return err
	}
	// Last: from here on somebody else can get the address.
	return c.ipam(ctx, r, Del)
}

// detach takes back all but the lease. The pair itself ends with the namespace.
func (c *bridgeConf) detach(host *hostSide, r Request, addrs []netip.Prefix) error {
	name, by := hostEnd(c.Name, r.ContainerID, r.IfName), owner(c.Name, r.ContainerID, r.IfName)
	if err := host.setDown(name); err != nil {
		return err
	}
	if c.MACSpoofCheck {
		if err := unpinMAC(by); err != nil {
			return err
		}
	}
	if c.IPMasq {
		return unmasquerade(addrs, by)
	}
	return nil
}

func (c *bridgeConf) gc(ctx context.Context, r Request) error {
	keep := owners(c.Name, c.ValidAttachments)
	return errors.Join(
		gcMasquerade(c.Name, keep),
		gcPinnedMACs(c.Name, keep),
		c.ipam(ctx, r, GC),
	)
}
