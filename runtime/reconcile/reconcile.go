package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/berth-cri/berth/cni/network"
	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/runtime/cgroup"
	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/containerd/errdefs"
)

// Images is what is cleaned in the image store.
type Images interface {
	// Run sweeps layers that no image and no container holds, until ctx ends.
	Run(ctx context.Context)
}

// Network is what is cleaned in the network.
type Network interface {
	// Leftovers takes down what was attached before the machine was rebooted.
	Leftovers(ctx context.Context) error
	Recorded() ([]network.Record, error)
	Teardown(ctx context.Context, p network.Pod) error
}

// Monitor is what is asked for processes that belong to nobody.
type Monitor interface {
	List(ctx context.Context) ([]monitor.Container, error)
	Kill(ctx context.Context, r monitor.KillRequest) error
	Forget(ctx context.Context, id string) error
}

// cgroupLimit bounds what processes take to end after SIGKILL.
const cgroupLimit = 10 * time.Second

// Reconciler does it for one node.
type Reconciler struct {
	Pods       *pod.Service
	Containers *container.Service
	Images     Images
	Network    Network
	Cgroups    *cgroup.Manager
	Log        *slog.Logger

	// What an earlier daemon left half made or half removed. It is found before
	// the gate opens: later, half made is also what requests are making.
	halfPods       []*pod.Pod
	halfContainers []*container.Container
}

// Restore reads the records. Nothing is asked of the monitor yet, which on
// connecting must know what to adopt.
func (r *Reconciler) Restore() error {
	if err := r.Pods.Restore(); err != nil {
		return err
	}
	return r.Containers.Restore()
}

// Recover makes the states true. After it the gate may open.
func (r *Reconciler) Recover(ctx context.Context) error {
	began := time.Now()
	if err := r.Containers.Reconcile(ctx); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	r.halfPods, r.halfContainers = r.Pods.Abandoned(), r.Containers.Abandoned()
	r.Log.Info("recovered", "pods", len(r.Pods.List()), "containers", len(r.Containers.List()), "took", time.Since(began))
	return nil
}

// endStrangers kills what the monitor runs for records that are gone or could
// not be read: nobody could ever stop it.
func (r *Reconciler) endStrangers(ctx context.Context, m Monitor) error {
	list, err := m.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range list {
		if r.knows(c.ID) {
			continue
		}
		if c.Exit != nil {
			r.removeCgroup(c.ID)
			errs = append(errs, m.Forget(ctx, c.ID))
			continue
		}
		r.Log.Warn("ending a process without record", "container", c.ID, "pid", c.Pid)
		errs = append(errs, m.Kill(ctx, monitor.KillRequest{ID: c.ID})) // Exited forgets it
	}
	return errors.Join(errs...)
}

// Exited hands an exit to whose it is: a container's, a pod's reaper's, or
// nobody's.
func (r *Reconciler) Exited(e monitor.Exit, m Monitor) {
	if _, err := r.Containers.Get(e.ID); err == nil {
		r.Containers.Exited(e)
		return
	}
	if _, err := r.Pods.Get(e.ID); err == nil {
		r.Pods.Exited(e)
		return
	}
	r.removeCgroup(e.ID) // before: a daemon killed in between sees the exit again
	if err := m.Forget(context.Background(), e.ID); err != nil && !errdefs.IsNotFound(err) {
		r.Log.Warn("forget a process without record", "container", e.ID, "error", err)
	}
}

// removeCgroup ends what a process without record has left in its cgroup, of
// which nobody else knows, and removes it.
func (r *Reconciler) removeCgroup(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), cgroupLimit)
	defer cancel()
	c, err := r.Cgroups.Find(id)
	if err == nil {
		err = c.Kill(ctx)
	}
	if err == nil {
		err = c.Remove(ctx)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		r.Log.Warn("remove the cgroup of a process without record", "container", id, "error", err)
	}
}

func (r *Reconciler) knows(id string) bool {
	_, err := r.Containers.Get(id)
	if errdefs.IsNotFound(err) {
		_, err = r.Pods.Get(id) // the reaper of a pod
	}
	return !errdefs.IsNotFound(err)
}

// Clean takes away what an earlier daemon left half made or half removed, then
// keeps the stores clean until the context ends.
func (r *Reconciler) Clean(ctx context.Context, m Monitor) {
	if err := fault.Hit("reconcile.clean"); err != nil {
		r.Log.Error("clean up after an earlier daemon", "error", err)
		return
	}
	if err := r.endStrangers(ctx, m); err != nil {
		r.Log.Error("end processes without record", "error", err)
	}
	if err := r.Containers.Abandon(ctx, r.halfContainers); err != nil {
		r.Log.Error("clean up containers of an earlier daemon", "error", err)
	}
	var wg sync.WaitGroup
	for _, p := range r.halfPods {
		wg.Go(func() {
			if err := r.Pods.Abandon(ctx, p, r.Containers.RemovePod); err != nil {
				r.Log.Error("clean up a pod of an earlier daemon", "pod", p.Record().ID, "error", err)
			}
		})
	}
	wg.Wait()
	if err := r.cleanNetwork(ctx); err != nil {
		r.Log.Error("take down the network of pods that are gone", "error", err)
	}
	r.Images.Run(ctx)
}

// cleanNetwork frees the addresses of pods of an earlier boot, and of those
// whose record is lost. What cannot be freed now stays recorded.
func (r *Reconciler) cleanNetwork(ctx context.Context) error {
	errs := []error{r.Network.Leftovers(ctx)}
	recorded, err := r.Network.Recorded()
	errs = append(errs, err)
	for _, rec := range recorded {
		_, err := r.Pods.Get(rec.Pod.ID)
		if errdefs.IsNotFound(err) && !rec.FromEarlierBoot() {
			errs = append(errs, r.Network.Teardown(ctx, rec.Pod))
		}
	}
	return errors.Join(errs...)
}
