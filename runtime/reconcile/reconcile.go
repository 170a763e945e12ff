package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/berth-cri/berth/cni/network"
	"github.com/berth-cri/berth/runtime/container"
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

// Reconciler does it for one node.
type Reconciler struct {
	Pods       *pod.Service
	Containers *container.Service
	Images     Images
	Network    Network
	Log        *slog.Logger
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
	r.Log.Info("recovered", "pods", len(r.Pods.List()), "containers", len(r.Containers.List()), "took", time.Since(began))
	return nil
}

// Clean takes away what an earlier daemon left half made or half removed, then
// keeps the stores clean until the context ends.
func (r *Reconciler) Clean(ctx context.Context) {
	if err := r.Containers.Abandoned(ctx); err != nil {
		r.Log.Error("clean up containers of an earlier daemon", "error", err)
	}
	var wg sync.WaitGroup
	for _, p := range r.Pods.Abandoned() {
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
