package cri

import (
	"context"
	"log/slog"
	"path"
	"time"

	"github.com/berth-cri/berth/cri/metrics"
	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/berth-cri/berth/runtime/stats"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListMetricDescriptors. CRI: the list does not change while the runtime lives.
func (s *Server) ListMetricDescriptors(context.Context, *runtimeapi.ListMetricDescriptorsRequest) (*runtimeapi.ListMetricDescriptorsResponse, error) {
	return &runtimeapi.ListMetricDescriptorsResponse{Descriptors: metrics.Descriptors()}, nil
}

// ListPodSandboxMetrics tells of every ready sandbox and its running
// containers. With very many of them the reply is larger than a client takes;
// StreamPodSandboxMetrics has no such limit.
func (s *Server) ListPodSandboxMetrics(ctx context.Context, _ *runtimeapi.ListPodSandboxMetricsRequest) (*runtimeapi.ListPodSandboxMetricsResponse, error) {
	return reply(&runtimeapi.ListPodSandboxMetricsResponse{}, s.sandboxMetrics(ctx)), nil
}

// StreamPodSandboxMetrics is ListPodSandboxMetrics in chunks.
func (s *Server) StreamPodSandboxMetrics(_ *runtimeapi.StreamPodSandboxMetricsRequest, to runtimeapi.RuntimeService_StreamPodSandboxMetricsServer) error {
	return streamEntries(s.sandboxMetrics(to.Context()), func(chunk [][]byte) error {
		return to.Send(reply(&runtimeapi.StreamPodSandboxMetricsResponse{}, chunk))
	})
}

func (s *Server) sandboxMetrics(ctx context.Context) [][]byte {
	var pods []*pod.Pod
	for _, p := range s.Pods.List() {
		if p.Record().State == pod.Ready {
			pods = append(pods, p)
		}
	}
	fs, err := metrics.ReadFilesystem(s.Images.FsUsage().Mountpoint)
	if err != nil {
		slog.WarnContext(ctx, "file system left out of metrics", "error", err)
	}
	return entriesOf(s.measure(ctx, pods, stats.Tasks|stats.Detail), func(m measured) (proto.Message, bool) {
		all := &runtimeapi.PodSandboxMetrics{PodSandboxId: m.pod.Record().ID, Metrics: s.podMetrics(m)}
		for i, c := range m.containers {
			all.ContainerMetrics = append(all.ContainerMetrics, &runtimeapi.ContainerMetrics{
				ContainerId: c.Record().ID,
				Metrics:     metrics.Of(s.containerSubject(m.pod.Record(), c, m.readings[i], fs)),
			})
		}
		return all, true
	})
}

// podMetrics are of the pod's network, which cAdvisor tells as the sandbox's, and
// of its cgroup, where it has one: processors, memory and pressure, as more
// would be read and told for every pod and is what its containers tell.
func (s *Server) podMetrics(m measured) []*runtimeapi.Metric {
	rec := m.pod.Record()
	parent, err := s.Pods.CgroupParent(m.pod)
	if err != nil {
		return nil // it was not accepted either
	}
	network := metrics.Subject{
		ID: path.Join(parent, rec.ID), Name: rec.ID, Network: m.network,
		Namespace: rec.Config.GetMetadata().GetNamespace(), Pod: rec.Config.GetMetadata().GetName(),
	}
	all := metrics.Of(&network)
	if !m.alone {
		return all
	}
	return append(all, metrics.Of(&metrics.Subject{
		ID: parent, Namespace: network.Namespace, Pod: network.Pod,
		Sample: m.own.Sample, Started: time.Unix(0, rec.CreatedAt),
	})...)
}

func (s *Server) containerSubject(p *pod.Record, c *container.Container, st container.Stats, fs *metrics.Filesystem) *metrics.Subject {
	rec, status := c.Record(), c.Status()
	image := rec.Config.GetImage().GetUserSpecifiedImage()
	if image == "" {
		image = rec.Config.GetImage().GetImage()
	}
	subject := &metrics.Subject{
		Container: rec.Config.GetMetadata().GetName(),
		ID:        rec.Cgroup, Image: image, Name: rec.ID,
		Namespace: p.Config.GetMetadata().GetNamespace(), Pod: p.Config.GetMetadata().GetName(),
		Sample: st.Sample, Started: time.Unix(0, status.StartedAt),
		Limits: &metrics.Limits{LinuxContainerResources: c.Limits().Config},
	}
	if fs != nil {
		subject.Disk = &metrics.Disk{Filesystem: *fs}
		if st.Layer != nil {
			subject.Disk.Used = &st.Layer.Bytes
		}
	}
	if pids, err := s.Containers.Pids(c); err == nil {
		counted := stats.ReadProcesses(pids)
		subject.Processes = &counted
	}
	if n, ok := stats.OpenFilesLimit(status.Pid); ok {
		subject.Files = &n
	}
	return subject
}
