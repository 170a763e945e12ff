package builtin

import (
	"context"
	"fmt"
	"net"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-cri/berth/cni/netns"
	"github.com/berth-cri/berth/linux/namespace"
)

// loopback brings up lo; the interface name of the request does not matter.
func loopback(_ context.Context, r Request) (Result, error) {
	var conf types.PluginConf
	if err := parse("loopback", r.Config, &conf); err != nil {
		return nil, err
	}
	switch r.Command {
	case Add:
		if err := netns.Do(r.Netns, namespace.LoopbackUp); err != nil {
			return nil, fmt.Errorf("loopback: %w", err)
		}
		if prev, err := previous("loopback", &conf); prev != nil || err != nil {
			return prev, err
		}
		lo := current.Int(0)
		return &current.Result{
			CNIVersion: current.ImplementedSpecVersion,
			Interfaces: []*current.Interface{{Name: "lo", Mac: "00:00:00:00:00:00", Sandbox: r.Netns}},
			IPs: []*current.IPConfig{
				{Interface: lo, Address: net.IPNet{IP: net.IPv4(127, 0, 0, 1).To4(), Mask: net.CIDRMask(8, 32)}},
				{Interface: lo, Address: net.IPNet{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)}},
			},
		}, nil
	case Del, GC, Status:
		return nil, nil // lo ends with the namespace
	case Check:
		err := netns.Do(r.Netns, func() error {
			lo, err := net.InterfaceByName("lo")
			if err == nil && lo.Flags&net.FlagUp == 0 {
				err = fmt.Errorf("lo is down: %w", errdefs.ErrFailedPrecondition)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("loopback: %w", err)
		}
		return nil, nil
	}
	return nil, unknownCommand("loopback", r.Command)
}
