package cri

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/stats"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ContainerStats. CRI: an error when there is no such container. One that does
// not run has a writable layer and nothing else.
func (s *Server) ContainerStats(ctx context.Context, r *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	c, err := s.Containers.Get(r.GetContainerId())
	if err == nil && !listed(c) {
		err = fmt.Errorf("is being created: %w", errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("stats of container %s: %w", r.GetContainerId(), err)
	}
	st, err := s.Containers.Stats(ctx, c, 0)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatsResponse{Stats: containerStats(c, st, s.Images.FsUsage().Mountpoint)}, nil
}

// ListContainerStats. CRI: of the running containers; the parts of the filter
// are ANDed, an unknown id gives an empty list.
func (s *Server) ListContainerStats(ctx context.Context, r *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	return reply(&runtimeapi.ListContainerStatsResponse{}, s.listContainerStats(ctx, r.GetFilter())), nil
}

// StreamContainerStats is ListContainerStats in chunks.
func (s *Server) StreamContainerStats(r *runtimeapi.StreamContainerStatsRequest, to runtimeapi.RuntimeService_StreamContainerStatsServer) error {
	return streamEntries(s.listContainerStats(to.Context(), r.GetFilter()), func(chunk [][]byte) error {
		return to.Send(reply(&runtimeapi.StreamContainerStatsResponse{}, chunk))
	})
}

func (s *Server) listContainerStats(ctx context.Context, f *runtimeapi.ContainerStatsFilter) [][]byte {
	mountpoint := s.Images.FsUsage().Mountpoint
	return entriesOf(s.statsOf(f), func(c *container.Container) (proto.Message, bool) {
		st, ok := s.sample(ctx, c, 0)
		if !ok {
			return nil, false
		}
		return containerStats(c, st, mountpoint), true
	})
}

// statsOf are the running containers that a filter wants.
func (s *Server) statsOf(f *runtimeapi.ContainerStatsFilter) []*container.Container {
	pod := f.GetPodSandboxId()
	if p, err := s.Pods.Get(pod); err == nil { // a prefix, as crictl sends it
		pod = p.Record().ID
	}
	all := s.Containers.List()
	if id := f.GetId(); id != "" {
		all = nil
		if c, err := s.Containers.Get(id); err == nil {
			all = append(all, c)
		}
	}
	wanted := all[:0]
	for _, c := range all {
		rec := c.Record()
		if running(c) && (pod == "" || rec.Pod == pod) && matches(rec.Config.GetLabels(), f.GetLabelSelector()) {
			wanted = append(wanted, c)
		}
	}
	return wanted
}

func running(c *container.Container) bool {
	return c.Status().State.CRI() == runtimeapi.ContainerState_CONTAINER_RUNNING && listed(c)
}

// sample reads a container for a list, which one that ends meanwhile, or cannot
// be read, must not fail (cri-o#9223).
func (s *Server) sample(ctx context.Context, c *container.Container, parts stats.Parts) (container.Stats, bool) {
	st, err := s.Containers.Stats(ctx, c, parts)
	if err != nil && !errdefs.IsNotFound(err) {
		slog.WarnContext(ctx, "container left out of stats", "container", c.Record().ID, "error", err)
	}
	return st, err == nil
}

func containerStats(c *container.Container, st container.Stats, mountpoint string) *runtimeapi.ContainerStats {
	rec, limits := c.Record(), c.Limits().Config
	return &runtimeapi.ContainerStats{
		Attributes: &runtimeapi.ContainerAttributes{
			Id:          rec.ID,
			Metadata:    rec.Config.GetMetadata(),
			Labels:      rec.Config.GetLabels(),
			Annotations: rec.Config.GetAnnotations(),
		},
		Cpu:           cpuUsage(st.Reading),
		Memory:        memoryUsage(st.Reading, max(limits.GetMemoryLimitInBytes(), 0)),
		WritableLayer: layerUsage(st.Layer, mountpoint),
		Swap:          swapUsage(st.Reading, limits),
		Io:            ioUsage(st.Reading),
	}
}
