package builtin

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"math"
	"net"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

type bandwidthConf struct {
	types.PluginConf
	bandwidthLimits
	UnshapedSubnets []string `json:"unshapedSubnets"`
	ShapedSubnets   []string `json:"shapedSubnets"`
	RuntimeConfig   struct {
		Bandwidth bandwidthLimits `json:"bandwidth"`
	} `json:"runtimeConfig"`
}

// bandwidthLimits are in bits and bits per second, seen from the pod.
type bandwidthLimits struct {
	IngressRate  uint64 `json:"ingressRate"`
	IngressBurst uint64 `json:"ingressBurst"`
	EgressRate   uint64 `json:"egressRate"`
	EgressBurst  uint64 `json:"egressBurst"`
}

// shapingLatency is how long a packet may wait in a token bucket.
const shapingLatency = 0.025 // seconds, as in the reference plugin

// bandwidth limits a pod's traffic by token buckets on the host's end of its
// veth pair: what goes to the pod leaves there, what comes from it is sent
// through an ifb device, since the kernel shapes only what leaves.
func bandwidth(_ context.Context, r Request) (Result, error) {
	var conf bandwidthConf
	if err := parse("bandwidth", r.Config, &conf); err != nil {
		return nil, err
	}
	if len(conf.UnshapedSubnets)+len(conf.ShapedSubnets) > 0 {
		return nil, &Unsupported{"bandwidth", "shapedSubnets and unshapedSubnets"}
	}
	limits := conf.bandwidthLimits
	if limits == (bandwidthLimits{}) {
		limits = conf.RuntimeConfig.Bandwidth
	}
	var res Result
	err := limits.validate()
	if err == nil {
		switch r.Command {
		case Add:
			res, err = conf.add(r, limits)
		case Del:
			if limits.EgressRate != 0 {
				err = withHost(func(host *hostSide) error { return host.remove(conf.device(r)) })
			}
		case Check:
			err = conf.check(r, limits)
		case GC, Status:
		default:
			err = unknownCommand("bandwidth", r.Command)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bandwidth: %w", err)
	}
	return res, nil
}

func (l bandwidthLimits) validate() error {
	for _, d := range []struct {
		name        string
		rate, burst uint64
	}{{"ingress", l.IngressRate, l.IngressBurst}, {"egress", l.EgressRate, l.EgressBurst}} {
		if (d.rate == 0) != (d.burst == 0) || d.burst/8 > math.MaxUint32 || d.rate != 0 && d.rate < 8 {
			return fmt.Errorf("%s rate %d and burst %d: both or none, burst below 4 GiB: %w", d.name, d.rate, d.burst, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// device is the name of the pod's ifb, the same as the reference plugin's.
func (c *bandwidthConf) device(r Request) string {
	return fmt.Sprintf("bwp%x", sha512.Sum512([]byte(c.Name+r.ContainerID)))[:unix.IFNAMSIZ-1]
}

func withHost(fn func(host *hostSide) error) error {
	host, err := openHost()
	if err != nil {
		return err
	}
	defer host.Close()
	return fn(host)
}

func (c *bandwidthConf) add(r Request, limits bandwidthLimits) (Result, error) {
	res, err := previous("bandwidth", &c.PluginConf)
	if err == nil && res == nil {
		err = fmt.Errorf("must be called as chained plugin: %w", errdefs.ErrInvalidArgument)
	}
	if err != nil || limits == (bandwidthLimits{}) {
		return res, err
	}
	err = withHost(func(host *hostSide) (err error) {
		port, err := peerOf(host, r)
		if err != nil {
			return err
		}
		if limits.IngressRate != 0 {
			if err := shape(host, port, limits.IngressRate, limits.IngressBurst); err != nil {
				return err
			}
		}
		if limits.EgressRate == 0 {
			return nil
		}
		ifb, err := c.ifb(host, r, port.Attrs().MTU)
		if err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, host.remove(c.device(r)))
			}
		}()
		if err := shape(host, ifb, limits.EgressRate, limits.EgressBurst); err != nil {
			return err
		}
		res.Interfaces = append(res.Interfaces, &current.Interface{Name: ifb.Attrs().Name, Mac: ifb.Attrs().HardwareAddr.String()})
		return redirect(host, port, ifb)
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func (c *bandwidthConf) ifb(host *hostSide, r Request, mtu int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Flags = c.device(r), mtu, net.FlagUp
	if err := host.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
		return nil, fmt.Errorf("create %s: %w", attrs.Name, err)
	}
	return host.LinkByName(attrs.Name)
}

// shape puts a token bucket on what leaves by a link.
func shape(host *hostSide, l netlink.Link, rate, burst uint64) error {
	if err := host.QdiscReplace(bucket(l, rate, burst)); err != nil {
		return fmt.Errorf("shape %s: %w", l.Attrs().Name, err)
	}
	return nil
}

func bucket(l netlink.Link, rate, burst uint64) *netlink.Tbf {
	bytes, size := rate/8, uint32(burst/8)
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       bytes,
		Limit:      uint32(min(float64(bytes)*shapingLatency+float64(size), math.MaxUint32)),
		Buffer:     uint32(min(float64(size)/float64(bytes)*netlink.TIME_UNITS_PER_SEC*netlink.TickInUsec(), math.MaxUint32)),
	}
}

// redirect sends what a link receives out through another.
func redirect(host *hostSide, from, to netlink.Link) error {
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: from.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
	}}
	if err := host.QdiscAdd(ingress); err != nil {
		return fmt.Errorf("take in %s: %w", from.Attrs().Name, err)
	}
	all := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: from.Attrs().Index, Parent: ingress.Handle, Priority: 1, Protocol: unix.ETH_P_ALL},
		ClassId:     netlink.MakeHandle(1, 1),
		RedirIndex:  to.Attrs().Index,
		Actions:     []netlink.Action{&netlink.MirredAction{MirredAction: netlink.TCA_EGRESS_REDIR, Ifindex: to.Attrs().Index}},
	}
	if err := host.FilterAdd(all); err != nil {
		return fmt.Errorf("redirect %s to %s: %w", from.Attrs().Name, to.Attrs().Name, err)
	}
	return nil
}

func (c *bandwidthConf) check(r Request, limits bandwidthLimits) error {
	return withHost(func(host *hostSide) error {
		port, err := peerOf(host, r)
		if err != nil {
			return err
		}
		if limits.IngressRate != 0 {
			if err := checkBucket(host, port, limits.IngressRate, limits.IngressBurst); err != nil {
				return err
			}
		}
		if limits.EgressRate == 0 {
			return nil
		}
		ifb, err := host.LinkByName(c.device(r))
		if err != nil {
			return fmt.Errorf("find %s: %w", c.device(r), err)
		}
		return checkBucket(host, ifb, limits.EgressRate, limits.EgressBurst)
	})
}

func checkBucket(host *hostSide, l netlink.Link, rate, burst uint64) error {
	all, err := host.QdiscList(l)
	if err != nil {
		return fmt.Errorf("list the queues of %s: %w", l.Attrs().Name, err)
	}
	want := bucket(l, rate, burst)
	for _, q := range all {
		if t, ok := q.(*netlink.Tbf); ok && t.Rate == want.Rate && t.Limit == want.Limit && t.Buffer == want.Buffer {
			return nil
		}
	}
	return fmt.Errorf("%s is not limited to %d bits per second: %w", l.Attrs().Name, rate, errdefs.ErrNotFound)
}
