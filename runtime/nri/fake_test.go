package nri

import (
	"context"
	"time"

	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/containerd/errdefs"
)

// noPods and noContainers are an empty node.
type (
	noPods       struct{}
	noContainers struct{}
)

func (noPods) Get(string) (*pod.Pod, error) { return nil, errdefs.ErrNotFound }
func (noPods) List() []*pod.Pod             { return nil }

func (noContainers) List() []*container.Container { return nil }
func (noContainers) Set(context.Context, string, container.Change) error {
	return errdefs.ErrNotFound
}
func (noContainers) Stop(context.Context, string, time.Duration) error { return errdefs.ErrNotFound }
