package e2e

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ids reads a stream of a list to its end.
func ids[R, T any](t *testing.T, stream grpc.ServerStreamingClient[R], err error, entries func(*R) []T, id func(T) string) []string {
	t.Helper()
	all := []string{}
	for err == nil {
		var r *R
		if r, err = stream.Recv(); err == nil {
			if len(entries(r)) == 0 {
				t.Error("an empty chunk")
			}
			for _, e := range entries(r) {
				all = append(all, id(e))
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return all
}

func names[T any](list []T, id func(T) string) []string {
	all := []string{}
	for _, e := range list {
		all = append(all, id(e))
	}
	return all
}

// Every list that can be streamed has the same entries both ways, whether there
// are some or none.
func TestStreamsOfLists(t *testing.T) {
	n := newNode(t)
	same := func(what string, unary, stream []string, want int) {
		t.Helper()
		if len(unary) != want || !slices.Equal(unary, stream) {
			t.Errorf("%s: %v, streamed %v; want %d", what, unary, stream, want)
		}
	}
	compare := func(images, pods, containers int) {
		t.Helper()
		ctx := n.ctx()
		i, err := n.images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		is, err := n.images.StreamImages(ctx, &runtimeapi.StreamImagesRequest{})
		same("images", names(i.Images, (*runtimeapi.Image).GetId), ids(t, is, err, (*runtimeapi.StreamImagesResponse).GetImages, (*runtimeapi.Image).GetId), images)

		p, err := n.rt.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
		if err != nil {
			t.Fatal(err)
		}
		ps, err := n.rt.StreamPodSandboxes(ctx, &runtimeapi.StreamPodSandboxesRequest{})
		same("pods", names(p.Items, (*runtimeapi.PodSandbox).GetId), ids(t, ps, err, (*runtimeapi.StreamPodSandboxesResponse).GetPodSandboxes, (*runtimeapi.PodSandbox).GetId), pods)

		c, err := n.rt.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
		if err != nil {
			t.Fatal(err)
		}
		cs, err := n.rt.StreamContainers(ctx, &runtimeapi.StreamContainersRequest{})
		same("containers", names(c.Containers, (*runtimeapi.Container).GetId), ids(t, cs, err, (*runtimeapi.StreamContainersResponse).GetContainers, (*runtimeapi.Container).GetId), containers)

		id := func(s *runtimeapi.ContainerStats) string { return s.Attributes.Id }
		ss, err := n.rt.StreamContainerStats(ctx, &runtimeapi.StreamContainerStatsRequest{})
		same("stats of containers", names(n.stats(nil), id), ids(t, ss, err, (*runtimeapi.StreamContainerStatsResponse).GetContainerStats, id), containers)

		podID := func(s *runtimeapi.PodSandboxStats) string {
			return s.Attributes.Id + fmt.Sprint(len(s.Linux.Containers))
		}
		q, err := n.rt.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		qs, err := n.rt.StreamPodSandboxStats(ctx, &runtimeapi.StreamPodSandboxStatsRequest{})
		same("stats of pods", names(q.Stats, podID), ids(t, qs, err, (*runtimeapi.StreamPodSandboxStatsResponse).GetPodSandboxStats, podID), pods)

		series := func(m *runtimeapi.PodSandboxMetrics) string {
			text := m.PodSandboxId
			for _, c := range m.ContainerMetrics {
				for _, one := range c.Metrics {
					text += one.Name
				}
			}
			return text
		}
		m, err := n.rt.ListPodSandboxMetrics(ctx, &runtimeapi.ListPodSandboxMetricsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		ms, err := n.rt.StreamPodSandboxMetrics(ctx, &runtimeapi.StreamPodSandboxMetricsRequest{})
		same("metrics", names(m.PodMetrics, series), ids(t, ms, err, (*runtimeapi.StreamPodSandboxMetricsResponse).GetPodSandboxMetrics, series), pods)
	}
	compare(0, 0, 0)
	n.pull(busybox)
	n.pull(users)
	for _, name := range []string{"one", "two", "three"} {
		n.run(n.pod(n.podConfig(name)), containerConfig("c", "sleep 1000"))
	}
	compare(2, 3, 3)
}

// A list tells the state of now, whatever was remembered of the one before.
func TestListsFollowTheState(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	state := func(id string) string {
		t.Helper()
		r, err := n.rt.ListContainers(n.ctx(), &runtimeapi.ListContainersRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range r.Containers {
			if c.Id == id {
				return c.State.String()
			}
		}
		return "gone"
	}
	podState := func(id string) string {
		t.Helper()
		r, err := n.rt.ListPodSandbox(n.ctx(), &runtimeapi.ListPodSandboxRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Items {
			if p.Id == id {
				return p.State.String()
			}
		}
		return "gone"
	}
	want := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	pod := n.pod(n.podConfig("listed"))
	want("a new pod", podState(pod), "SANDBOX_READY")
	id, err := n.create(pod, containerConfig("c", "sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	want("created", state(id), "CONTAINER_CREATED")
	if _, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	want("started", state(id), "CONTAINER_RUNNING")
	n.restart()
	want("after a restart", state(id), "CONTAINER_RUNNING")
	n.stop(id, 0)
	want("stopped", state(id), "CONTAINER_EXITED")
	n.remove(id)
	want("removed", state(id), "gone")
	n.stopPod(pod)
	want("a stopped pod", podState(pod), "SANDBOX_NOTREADY")
	n.removePod(pod)
	want("a removed pod", podState(pod), "gone")
}
