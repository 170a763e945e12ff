package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/cri/events"
	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/index"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// images is an image service that holds nothing.
type images struct{ container.Images }

func (images) Hold(string, []digest.Digest) {}

// newServer is a server over n pods with a container each, restored from
// records as the kubelet makes them, in the states in turn; nothing of them runs.
func newServer(t testing.TB, n int, states ...container.State) *Server {
	t.Helper()
	state := t.TempDir()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	pods, err := pod.New(pod.Options{StateDir: filepath.Join(state, "pods"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	containers, err := container.New(container.Options{StateDir: filepath.Join(state, "containers"), Pods: pods, Images: images{}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	write := func(dir string, files map[string]any) {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, v := range files {
			if err := atomicfile.WriteJSON(filepath.Join(dir, name), v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(states) == 0 {
		states = []container.State{container.Running}
	}
	for i := range n {
		podID, id := index.NewID(), index.NewID()
		name, uid := fmt.Sprintf("deployment-%d-7d4b9c6f5d-x2x%d", i%50, i), fmt.Sprintf("5ba2c1a4-0000-4000-8000-%012d", i)
		labels := map[string]string{
			"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "production", "io.kubernetes.pod.uid": uid,
			"app": fmt.Sprintf("app-%d", i%50), "pod-template-hash": "7d4b9c6f5d", "tier": []string{"front", "back"}[i%2],
		}
		write(filepath.Join(pods.StateDir, podID), map[string]any{"pod.json": &pod.Record{
			Version: 1, ID: podID, Name: name, State: pod.Ready, CreatedAt: time.Now().UnixNano(),
			Config: &runtimeapi.PodSandboxConfig{
				Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "production", Uid: uid},
				Labels:   labels,
				Annotations: map[string]string{
					"kubernetes.io/config.seen": "2026-01-02T03:04:05.678901234Z", "kubernetes.io/config.source": "api",
					"prometheus.io/scrape": "true", "prometheus.io/port": "8080",
				},
				Linux: &runtimeapi.LinuxPodSandboxConfig{
					CgroupParent: "/kubepods/burstable/pod" + uid,
					SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{
						Network: runtimeapi.NamespaceMode_NODE, Pid: runtimeapi.NamespaceMode_CONTAINER, Ipc: runtimeapi.NamespaceMode_NODE,
					}},
				},
			},
		}})
		write(filepath.Join(containers.StateDir, id), map[string]any{
			"container.json": &container.Record{
				Version: 1, ID: id, Name: podID + "_app_0", Pod: podID, CreatedAt: time.Now().UnixNano(),
				ImageID: "sha256:" + id, ImageRef: "registry.example/app@sha256:" + id,
				Config: &runtimeapi.ContainerConfig{
					Metadata: &runtimeapi.ContainerMetadata{Name: "app"},
					Image:    &runtimeapi.ImageSpec{Image: "sha256:" + id, UserSpecifiedImage: "registry.example/app:1.2.3"},
					Labels: map[string]string{
						"io.kubernetes.container.name": "app", "io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "production", "io.kubernetes.pod.uid": uid,
						"tier": labels["tier"],
					},
					Annotations: map[string]string{
						"io.kubernetes.container.hash": "8a7b6c5d", "io.kubernetes.container.restartCount": "0",
						"io.kubernetes.container.terminationMessagePath": "/dev/termination-log", "io.kubernetes.container.terminationMessagePolicy": "File",
						"io.kubernetes.pod.terminationGracePeriod": "30",
					},
				},
			},
			"status.json": &container.Status{Version: 1, State: states[i%len(states)]},
		})
	}
	if err := pods.Restore(); err != nil {
		t.Fatal(err)
	}
	if err := containers.Restore(); err != nil {
		t.Fatal(err)
	}
	s := New(Options{Pods: pods, Containers: containers, Events: &events.Hub{}})
	pods.Changed, containers.Changed = s.PodChanged, s.ContainerChanged
	return s
}

// client speaks to the server over a socket, as the kubelet does.
func client(t testing.TB, s *Server) runtimeapi.RuntimeServiceClient {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxSendMsgSize(16 << 20))
	s.Register(server)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("unix://"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return runtimeapi.NewRuntimeServiceClient(conn)
}

// gather reads a stream to its end and says how many chunks there were.
func gather[R, T any](t *testing.T, stream grpc.ServerStreamingClient[R], err error, entries func(*R) []T) (all []T, chunks int) {
	t.Helper()
	for err == nil {
		var r *R
		if r, err = stream.Recv(); err == nil {
			if len(entries(r)) == 0 {
				t.Error("an empty chunk")
			}
			all, chunks = append(all, entries(r)...), chunks+1
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return all, chunks
}

func TestListsTellWhatTheRecordsSay(t *testing.T) {
	s := newServer(t, 3, container.Running, container.Created)
	c := client(t, s)
	for range 2 { // encoded, and remembered
		pods, err := c.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
		if err != nil || len(pods.Items) != 3 {
			t.Fatalf("%v, %v", pods, err)
		}
		for i, p := range s.Pods.List() {
			rec := p.Record()
			want := &runtimeapi.PodSandbox{
				Id: rec.ID, Metadata: rec.Config.Metadata, State: runtimeapi.PodSandboxState_SANDBOX_READY, CreatedAt: rec.CreatedAt,
				Labels: rec.Config.Labels, Annotations: rec.Config.Annotations,
			}
			if d := cmp.Diff(want, pods.Items[i], protocmp.Transform()); d != "" {
				t.Error(d)
			}
		}
		containers, err := c.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
		if err != nil || len(containers.Containers) != 3 {
			t.Fatalf("%v, %v", containers, err)
		}
		for i, one := range s.Containers.List() {
			rec := one.Record()
			want := &runtimeapi.Container{
				Id: rec.ID, PodSandboxId: rec.Pod, Metadata: rec.Config.Metadata, Image: rec.Config.Image, ImageRef: rec.ImageID, ImageId: rec.ImageID,
				State: one.Status().State.CRI(), CreatedAt: rec.CreatedAt, Labels: rec.Config.Labels, Annotations: rec.Config.Annotations,
			}
			if d := cmp.Diff(want, containers.Containers[i], protocmp.Transform()); d != "" {
				t.Error(d)
			}
		}
	}
}

// What is remembered is of a version: the next one is encoded anew, and what is
// not there any more is forgotten.
func TestEntries(t *testing.T) {
	var e entries[string]
	encoded := 0
	of := func(all bool, versions ...string) []string {
		t.Helper()
		list, err := e.of(versions, all, func(v string) proto.Message {
			encoded++
			return &runtimeapi.PodSandbox{Id: v}
		})
		if err != nil {
			t.Fatal(err)
		}
		var r runtimeapi.ListPodSandboxResponse
		b, err := proto.Marshal(reply(&runtimeapi.ListPodSandboxResponse{}, list))
		if err == nil {
			err = proto.Unmarshal(b, &r)
		}
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, p := range r.Items {
			ids = append(ids, p.Id)
		}
		return ids
	}
	for _, step := range []struct {
		all      bool
		versions []string
		encoded  int
	}{
		{true, nil, 0},
		{true, []string{"a1", "b1"}, 2},
		{true, []string{"a1", "b1"}, 0},
		{false, []string{"b1"}, 0},            // a filter
		{false, []string{"c1"}, 1},            // is not remembered
		{true, []string{"a2", "b1", "c1"}, 2}, // a has changed
		{true, []string{"c1", "b1", "a2"}, 0}, // in the order of the question
		{true, []string{"c1"}, 0},             // a and b are gone
		{true, []string{"a2", "b1", "c1"}, 2}, // and forgotten
	} {
		encoded = 0
		if got := of(step.all, step.versions...); !slices.Equal(got, step.versions) {
			t.Errorf("%v: %v", step, got)
		}
		if encoded != step.encoded {
			t.Errorf("%v: %d encoded", step, encoded)
		}
	}
}

func TestStreamsEqualTheirTwins(t *testing.T) {
	s := newServer(t, 1100, container.Running, container.Created)
	c := client(t, s)
	ctx := t.Context()
	pod, ctr := s.Pods.List()[7].Record().ID, s.Containers.List()[7].Record().ID
	front := map[string]string{"tier": "front"}
	for name, f := range map[string]*runtimeapi.PodSandboxFilter{
		"all": nil, "by label": {LabelSelector: front}, "by id": {Id: pod}, "by start of id and label": {Id: pod[:12], LabelSelector: map[string]string{"tier": "back"}},
		"ready": {State: &runtimeapi.PodSandboxStateValue{}}, "none": {Id: "none"}, "not ready": {State: &runtimeapi.PodSandboxStateValue{State: 1}},
	} {
		unary, err := c.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: f})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := c.StreamPodSandboxes(ctx, &runtimeapi.StreamPodSandboxesRequest{Filter: f})
		all, chunks := gather(t, stream, err, (*runtimeapi.StreamPodSandboxesResponse).GetPodSandboxes)
		if d := cmp.Diff(unary.Items, all, protocmp.Transform()); d != "" || chunks != (len(all)+chunkEntries-1)/chunkEntries {
			t.Errorf("pods, %s: %d chunks, %s", name, chunks, d)
		}
	}
	for name, f := range map[string]*runtimeapi.ContainerFilter{
		"all": nil, "by label": {LabelSelector: front}, "by id": {Id: ctr}, "by pod": {PodSandboxId: pod}, "by pod and another id": {Id: ctr, PodSandboxId: s.Pods.List()[8].Record().ID},
		"running": {State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}}, "none": {Id: "none"},
		"exited": {State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_EXITED}},
	} {
		unary, err := c.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: f})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := c.StreamContainers(ctx, &runtimeapi.StreamContainersRequest{Filter: f})
		all, chunks := gather(t, stream, err, (*runtimeapi.StreamContainersResponse).GetContainers)
		if d := cmp.Diff(unary.Containers, all, protocmp.Transform()); d != "" || chunks != (len(all)+chunkEntries-1)/chunkEntries {
			t.Errorf("containers, %s: %d chunks, %s", name, chunks, d)
		}
	}
	if _, err := c.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: 9}}}); err == nil {
		t.Error("no such state, and no error")
	}
}

func TestChunks(t *testing.T) {
	const big = chunkBytes/2 + 1
	for name, tc := range map[string]struct {
		sizes []int
		want  []int // entries of the chunks
	}{
		"nothing":            {nil, nil},
		"one":                {[]int{1}, []int{1}},
		"one that is a lot":  {[]int{2 * chunkBytes}, []int{1}},
		"by bytes":           {[]int{big, 1, big, 1, 1, big}, []int{2, 3, 1}},
		"large and small":    {[]int{1, 2 * chunkBytes, 1, 1}, []int{1, 1, 2}},
		"full to the brim":   {[]int{chunkBytes - 1, 1, 1}, []int{2, 1}},
		"by number":          {slices.Repeat([]int{1}, 2*chunkEntries+1), []int{chunkEntries, chunkEntries, 1}},
		"exactly the number": {slices.Repeat([]int{1}, chunkEntries), []int{chunkEntries}},
	} {
		var got, all []int
		err := stream(tc.sizes, func(n int) int { return n }, func(chunk []int) error {
			got, all = append(got, len(chunk)), append(all, chunk...)
			return nil
		})
		if err != nil || !slices.Equal(got, tc.want) || !slices.Equal(all, tc.sizes) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, tc.want)
		}
	}
	gone := errors.New("gone")
	calls := 0
	err := stream(slices.Repeat([]int{chunkBytes}, 5), func(n int) int { return n }, func([]int) error { calls++; return gone })
	if !errors.Is(err, gone) || calls != 1 {
		t.Errorf("a client that went away: %v after %d chunks", err, calls)
	}
}

// What the kubelet asks once a second, with the encoding of the reply.
func BenchmarkLists(b *testing.B) {
	s := newServer(b, 500)
	for b.Loop() {
		pods, err := s.ListPodSandbox(context.Background(), &runtimeapi.ListPodSandboxRequest{})
		if err != nil {
			b.Fatal(err)
		}
		containers, err := s.ListContainers(context.Background(), &runtimeapi.ListContainersRequest{})
		if err != nil {
			b.Fatal(err)
		}
		for _, m := range []proto.Message{pods, containers} {
			if out, err := proto.Marshal(m); err != nil || len(out) < 500*300 {
				b.Fatal(len(out), err)
			}
		}
	}
}
