package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/berth-cri/berth/cni/builtin"
	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/linux/namespace"
)

// Teardown frees what Setup recorded for the pod, by the configuration of that
// time. The network namespace may be gone. A pod that no plugin was ever asked
// to attach is success; after an error the record stays and Teardown can be
// called again.
func (m *Manager) Teardown(ctx context.Context, p Pod) error {
	rec, err := m.recorded(p)
	if err != nil {
		return fmt.Errorf("tear down network of pod %s: %w", p.ID, err)
	}
	if rec == nil {
		return nil
	}
	path := p.Netns
	if path == "" {
		path = rec.Pod.Netns
	}
	// From here on it is not the caller's to break off halfway: half of a DEL
	// says nothing about what is free.
	return m.detach(context.WithoutCancel(ctx), rec, path)
}

// Leftovers frees what was recorded before the machine was rebooted. The
// namespaces are gone, the leases are not. It also takes away the rules of pods
// that are gone with their record, this node's or those of one that is no more.
func (m *Manager) Leftovers(ctx context.Context) error {
	dead, err := builtin.RemoveDead()
	if dead > 0 {
		m.opts.Logger.Warn("rules of pods that are gone are removed", "elements", dead)
	}
	errs := []error{err}
	all, err := m.Recorded()
	errs = append(errs, err)
	for i := range all {
		if all[i].FromEarlierBoot() && ctx.Err() == nil {
			errs = append(errs, m.detach(context.WithoutCancel(ctx), &all[i], ""))
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// detach sends DEL for all of a record, the last network first, and removes the
// record when all succeeded.
func (m *Manager) detach(ctx context.Context, rec *Record, path string) error {
	if is, err := namespace.Is(path); err != nil || !is || rec.FromEarlierBoot() {
		path = "" // what the specification has for a namespace that is gone
	}
	var errs []error
	for _, a := range slices.Backward(rec.Networks) {
		if err := m.del(ctx, rec, a, path); err != nil {
			errs = append(errs, fmt.Errorf("detach pod %s/%s (%s) from its network: %w", rec.Pod.Namespace, rec.Pod.Name, rec.Pod.ID, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := fault.Hit("network.teardown.deleted"); err != nil {
		return err
	}
	for _, suffix := range []string{"", aside} {
		if err := os.Remove(m.recordPath(rec.Pod.ID) + suffix); err != nil && !isNotExist(err) {
			return fmt.Errorf("remove network record: %w", err)
		}
	}
	return nil
}

func (m *Manager) del(ctx context.Context, rec *Record, a Attachment, path string) error {
	list, err := parseConfList(a.Config, "")
	if err != nil {
		return fmt.Errorf("recorded network: %w", err)
	}
	rt, err := rec.Pod.runtimeConf(a.IfName, path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.opts.Timeout, fmt.Errorf("CNI plugins took more than %s: %w", m.opts.Timeout, context.DeadlineExceeded))
	defer cancel()
	if err := m.using.Load().cni.DelNetworkList(ctx, list, rt); err != nil {
		return fmt.Errorf("network %q: %w", list.Name, kind(err))
	}
	return nil
}

// Check asks the plugins whether the pod is still attached as Setup left it.
func (m *Manager) Check(ctx context.Context, p Pod) error {
	rec, err := readRecord(m.recordPath(p.ID))
	if err != nil {
		return fmt.Errorf("check network of pod %s: %w", p.ID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, m.opts.Timeout)
	defer cancel()
	for _, a := range rec.Networks {
		list, err := parseConfList(a.Config, "")
		if err != nil {
			return fmt.Errorf("recorded network: %w", err)
		}
		rt, err := rec.Pod.runtimeConf(a.IfName, p.Netns)
		if err != nil {
			return err
		}
		err = m.using.Load().cni.CheckNetworkList(ctx, list, rt)
		if err != nil && !errors.Is(err, libcni.ErrorCheckNotSupp) {
			return fmt.Errorf("check network %q of pod %s: %w", list.Name, p.ID, kind(err))
		}
	}
	return nil
}

// GC tells the plugins of the configured networks to drop every attachment that
// is not recorded here. It does nothing unless Options.GC is set: the plugins
// drop another runtime's pods too.
func (m *Manager) GC(ctx context.Context) error {
	if !m.opts.GC {
		return nil
	}
	nets, err := m.networks()
	if err != nil {
		return err
	}
	all, err := m.Recorded()
	if err != nil {
		return err // what cannot be read may be valid
	}
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, r := range all {
		for _, a := range r.Networks {
			args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: r.Pod.ID, IfName: a.IfName})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, m.opts.Timeout)
	defer cancel()
	var errs []error
	for _, n := range nets {
		if err := m.using.Load().cni.GCNetworkList(ctx, n, args); err != nil {
			errs = append(errs, fmt.Errorf("gc of network %q: %w", n.Name, kind(err)))
		}
	}
	return errors.Join(errs...)
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
