package cri

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/berth-cri/berth/runtime/stats"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PodSandboxStats. CRI: an error when there is no such sandbox.
func (s *Server) PodSandboxStats(ctx context.Context, r *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	p, err := s.Pods.Get(r.GetPodSandboxId())
	if err == nil && p.Record().State == pod.Creating {
		err = fmt.Errorf("is being created: %w", errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("stats of pod sandbox %s: %w", r.GetPodSandboxId(), err)
	}
	m := s.measure(ctx, []*pod.Pod{p}, 0)[0]
	return &runtimeapi.PodSandboxStatsResponse{Stats: sandboxStats(m, s.Images.FsUsage().Mountpoint)}, nil
}

// ListPodSandboxStats. CRI: the parts of the filter are ANDed; an unknown id
// gives an empty list. Only ready sandboxes use anything.
func (s *Server) ListPodSandboxStats(ctx context.Context, r *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	return reply(&runtimeapi.ListPodSandboxStatsResponse{}, s.listSandboxStats(ctx, r.GetFilter())), nil
}

// StreamPodSandboxStats is ListPodSandboxStats in chunks.
func (s *Server) StreamPodSandboxStats(r *runtimeapi.StreamPodSandboxStatsRequest, to runtimeapi.RuntimeService_StreamPodSandboxStatsServer) error {
	return streamEntries(s.listSandboxStats(to.Context(), r.GetFilter()), func(chunk [][]byte) error {
		return to.Send(reply(&runtimeapi.StreamPodSandboxStatsResponse{}, chunk))
	})
}

func (s *Server) listSandboxStats(ctx context.Context, f *runtimeapi.PodSandboxStatsFilter) [][]byte {
	all := s.Pods.List()
	if id := f.GetId(); id != "" {
		all = nil
		if p, err := s.Pods.Get(id); err == nil {
			all = append(all, p)
		}
	}
	wanted := all[:0]
	for _, p := range all {
		if rec := p.Record(); rec.State == pod.Ready && matches(rec.Config.GetLabels(), f.GetLabelSelector()) {
			wanted = append(wanted, p)
		}
	}
	mountpoint := s.Images.FsUsage().Mountpoint
	return entriesOf(s.measure(ctx, wanted, 0), func(m measured) (proto.Message, bool) { return sandboxStats(m, mountpoint), true })
}

// measured is a pod with what was read of it.
type measured struct {
	pod        *pod.Pod
	own        stats.Reading // of its cgroup, or else added up
	alone      bool          // it has a cgroup of its own
	containers []*container.Container
	readings   []container.Stats // of the containers
	network    *stats.Network    // nil without one of its own
}

// measure reads pods, with the parts asked for of their containers: the networks
// on one processor, meanwhile the cgroups on all of them.
func (s *Server) measure(ctx context.Context, pods []*pod.Pod, parts stats.Parts) []measured {
	networks := make(chan []*stats.Network, 1)
	go func() { networks <- s.Pods.Networks(pods) }()

	inside := make(map[string][]*container.Container, len(pods))
	for _, c := range s.Containers.List() {
		if running(c) {
			inside[c.Record().Pod] = append(inside[c.Record().Pod], c)
		}
	}
	owners := s.Pods.Owners()
	found := collect(pods, func(p *pod.Pod) (measured, bool) {
		m := measured{pod: p, alone: true}
		of := parts
		var err error
		if m.own, err = s.Pods.Stats(p, owners, stats.Tasks|stats.Limit); err != nil {
			if !errdefs.IsNotFound(err) {
				slog.WarnContext(ctx, "cgroup of pod left out of stats", "pod", p.Record().ID, "error", err)
			}
			m.alone, of = false, parts|stats.Tasks // to be added up
		}
		for _, c := range inside[p.Record().ID] {
			if st, ok := s.sample(ctx, c, of); ok {
				m.containers, m.readings = append(m.containers, c), append(m.readings, st)
			}
		}
		if !m.alone {
			m.own = sum(m.readings)
		}
		return m, true
	})
	for i, n := range <-networks {
		found[i].network = n
	}
	return found
}

func sandboxStats(m measured, mountpoint string) *runtimeapi.PodSandboxStats {
	rec := m.pod.Record()
	linux := &runtimeapi.LinuxPodSandboxStats{
		Cpu:     cpuUsage(m.own),
		Memory:  memoryUsage(m.own, limit(m.own)),
		Network: networkUsage(m.network, rec.Interface),
		Io:      ioUsage(m.own),
	}
	if m.own.Tasks != nil {
		linux.Process = &runtimeapi.ProcessUsage{Timestamp: m.own.At.UnixNano(), ProcessCount: optional(m.own.Tasks)}
	}
	for i, c := range m.containers {
		linux.Containers = append(linux.Containers, containerStats(c, m.readings[i], mountpoint))
	}
	return &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{
			Id:          rec.ID,
			Metadata:    rec.Config.GetMetadata(),
			Labels:      rec.Config.GetLabels(),
			Annotations: rec.Config.GetAnnotations(),
		},
		Linux: linux,
	}
}

// limit is that of the pod's cgroup.
func limit(r stats.Reading) int64 {
	if r.Memory == nil {
		return 0
	}
	return int64(r.Memory.Limit)
}
