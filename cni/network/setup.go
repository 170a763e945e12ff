package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/utils"

	"github.com/berth-cri/berth/cni/netns"
	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/linux/namespace"
)

// Setup attaches the pod to the configured networks and brings up its loopback.
// After an error nothing of it is left, or what is left stays recorded for
// Teardown.
func (m *Manager) Setup(ctx context.Context, p Pod) (_ Result, err error) {
	if err := utils.ValidateContainerID(p.ID); err != nil { // also a file name
		return Result{}, fmt.Errorf("pod id %q: %w: %w", p.ID, err, errdefs.ErrInvalidArgument)
	}
	nets, err := m.networks()
	if err != nil {
		return Result{}, err
	}
	confs := make([]*libcni.RuntimeConf, len(nets))
	for i := range nets {
		if confs[i], err = p.runtimeConf(fmt.Sprintf("eth%d", i), p.Netns); err != nil {
			return Result{}, err
		}
	}
	if err := netns.Do(p.Netns, namespace.LoopbackUp); err != nil {
		return Result{}, fmt.Errorf("set up loopback: %w", err)
	}
	if err := m.free(p.ID); err != nil {
		return Result{}, fmt.Errorf("pod %s was attached before: %w", p.ID, err)
	}
	rec, err := m.writeRecord(p, nets)
	if err != nil {
		return Result{}, fmt.Errorf("record network attachment: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.detach(context.WithoutCancel(ctx), rec, p.Netns))
		}
	}()
	if err := fault.Hit("network.setup.recorded"); err != nil {
		return Result{}, err
	}
	var first types.Result
	for i, n := range nets {
		res, err := m.add(ctx, n, confs[i])
		if err != nil {
			return Result{}, fmt.Errorf("attach pod %s/%s to network %q: %w", p.Namespace, p.Name, n.Name, err)
		}
		if i == 0 {
			first = res
		}
	}
	if err := fault.Hit("network.setup.added"); err != nil {
		return Result{}, err
	}
	return newResult(first, confs[0].IfName)
}

// free makes sure that nothing is recorded under the id: two ADDs of one
// attachment are forbidden, and the first record must not be lost.
func (m *Manager) free(id string) error {
	_, err := readRecord(m.recordPath(id))
	if err == nil {
		return errdefs.ErrAlreadyExists
	}
	if isNotExist(err) {
		return nil
	}
	return err
}

func (m *Manager) add(ctx context.Context, n *libcni.NetworkConfigList, rt *libcni.RuntimeConf) (types.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.opts.Timeout, fmt.Errorf("CNI plugins took more than %s: %w", m.opts.Timeout, context.DeadlineExceeded))
	defer cancel()
	res, err := m.using.Load().cni.AddNetworkList(ctx, n, rt)
	return res, kind(err)
}

// newResult finds the addresses of an interface in a plugin's result.
func newResult(any types.Result, ifName string) (Result, error) {
	raw, err := json.Marshal(any)
	if err != nil {
		return Result{}, fmt.Errorf("encode CNI result: %w", err)
	}
	res, err := current.GetResult(any)
	if err != nil {
		return Result{}, fmt.Errorf("convert CNI result: %w", err)
	}
	out := Result{Interface: ifName, Raw: raw}
	for _, ip := range res.IPs {
		// An address without an interface belongs to the one that was asked for.
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(res.Interfaces) {
			on := res.Interfaces[*i]
			if on.Name != ifName || on.Sandbox == "" && len(res.Interfaces) > 1 {
				continue
			}
		}
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok || a.Unmap().IsUnspecified() {
			return Result{}, fmt.Errorf("CNI result has the address %q: %w", ip.Address.IP, errdefs.ErrInvalidArgument)
		}
		out.IPs = append(out.IPs, a.Unmap())
	}
	if len(out.IPs) == 0 {
		return Result{}, fmt.Errorf("CNI result has no address for %s: %w", ifName, errdefs.ErrNotFound)
	}
	return out, nil
}
