package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// fake is a runtime that keeps a list.
type fake struct {
	cri.UnimplementedRuntimeServiceServer
	cri.UnimplementedImageServiceServer

	mu       sync.Mutex
	next     int
	pods     map[string]*cri.PodSandbox
	ctrs     map[string]*cri.Container
	image    bool
	failures int // how many StartContainer calls are left before all fail; -1: never
}

func (f *fake) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{RuntimeName: "fake", RuntimeVersion: "1"}, nil
}

func (f *fake) Status(context.Context, *cri.StatusRequest) (*cri.StatusResponse, error) {
	return &cri.StatusResponse{}, nil
}

func (f *fake) RunPodSandbox(_ context.Context, r *cri.RunPodSandboxRequest) (*cri.RunPodSandboxResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	id := fmt.Sprint("pod", f.next)
	f.pods[id] = &cri.PodSandbox{Id: id, Labels: r.Config.Labels}
	return &cri.RunPodSandboxResponse{PodSandboxId: id}, nil
}

func (f *fake) CreateContainer(_ context.Context, r *cri.CreateContainerRequest) (*cri.CreateContainerResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := "ctr-of-" + r.PodSandboxId
	f.ctrs[id] = &cri.Container{Id: id, PodSandboxId: r.PodSandboxId}
	return &cri.CreateContainerResponse{ContainerId: id}, nil
}

func (f *fake) StartContainer(context.Context, *cri.StartContainerRequest) (*cri.StartContainerResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failures == 0 {
		return nil, status.Error(codes.Internal, "no more")
	}
	f.failures--
	return &cri.StartContainerResponse{}, nil
}

func (f *fake) StopPodSandbox(context.Context, *cri.StopPodSandboxRequest) (*cri.StopPodSandboxResponse, error) {
	return &cri.StopPodSandboxResponse{}, nil
}

func (f *fake) RemovePodSandbox(_ context.Context, r *cri.RemovePodSandboxRequest) (*cri.RemovePodSandboxResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pods, r.PodSandboxId)
	delete(f.ctrs, "ctr-of-"+r.PodSandboxId)
	return &cri.RemovePodSandboxResponse{}, nil
}

func (f *fake) ListPodSandbox(context.Context, *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &cri.ListPodSandboxResponse{}
	for _, p := range f.pods {
		r.Items = append(r.Items, p)
	}
	return r, nil
}

func (f *fake) ListContainers(context.Context, *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &cri.ListContainersResponse{}
	for _, c := range f.ctrs {
		r.Containers = append(r.Containers, c)
	}
	return r, nil
}

func (f *fake) ListContainerStats(context.Context, *cri.ListContainerStatsRequest) (*cri.ListContainerStatsResponse, error) {
	return &cri.ListContainerStatsResponse{}, nil
}

func (f *fake) ExecSync(context.Context, *cri.ExecSyncRequest) (*cri.ExecSyncResponse, error) {
	return &cri.ExecSyncResponse{}, nil
}

func (f *fake) ImageStatus(context.Context, *cri.ImageStatusRequest) (*cri.ImageStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.image {
		return &cri.ImageStatusResponse{Image: &cri.Image{Id: "x"}}, nil
	}
	return &cri.ImageStatusResponse{}, nil
}

func (f *fake) PullImage(context.Context, *cri.PullImageRequest) (*cri.PullImageResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.image = true
	return &cri.PullImageResponse{ImageRef: "x"}, nil
}

func (f *fake) RemoveImage(context.Context, *cri.RemoveImageRequest) (*cri.RemoveImageResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.image = false
	return &cri.RemoveImageResponse{}, nil
}

func (f *fake) ListImages(context.Context, *cri.ListImagesRequest) (*cri.ListImagesResponse, error) {
	return &cri.ListImagesResponse{}, nil
}

func (f *fake) ImageFsInfo(context.Context, *cri.ImageFsInfoRequest) (*cri.ImageFsInfoResponse, error) {
	return &cri.ImageFsInfoResponse{}, nil
}

// serve starts a fake runtime and returns it with its socket.
func serve(t *testing.T) (*fake, string) {
	t.Helper()
	f := &fake{pods: map[string]*cri.PodSandbox{}, ctrs: map[string]*cri.Container{}, failures: -1}
	socket := filepath.Join(t.TempDir(), "cri.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, f)
	cri.RegisterImageServiceServer(server, f)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	return f, socket
}

// capture returns what f writes to standard output.
func capture(t *testing.T, f func() error) (string, error) {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	saved := os.Stdout
	os.Stdout = file
	defer func() { os.Stdout = saved }()
	errRun := f()
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text), errRun
}

func TestEveryPhaseOverTwoRuntimes(t *testing.T) {
	a, socketA := serve(t)
	b, socketB := serve(t)
	a.pods["stale"] = &cri.PodSandbox{Id: "stale", Labels: map[string]string{label: "true"}}
	out, err := capture(t, func() error {
		return run(t.Context(), []string{
			"-json", "-rounds", "2", "-per-round", "2", "-execs", "2", "-burst", "5", "-pods", "5", "-idle", "10ms", "-settle", "1ms", "-pull", "x",
			"-restart", "one=true", "one=" + socketA, "two=unix://" + socketB,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	columns := map[string]int{}
	for _, r := range rows {
		columns[r.Figure] = len(r.Values)
	}
	for figure, want := range map[string]int{
		"RunPodSandbox p50": 2, "CreateContainer p95": 2, "StartContainer p50": 2, "whole pod start p50": 2,
		"stop + remove a pod p50": 2, "ExecSync true p50": 2, "ExecSync true, 8 at once": 2, "burst of pods, up": 2,
		"burst of pods, down": 2, "PSS per pod": 2, "processes per pod": 2, "ListPodSandbox + ListContainers p50": 2,
		"stats of all containers p50": 2, "CPU under a kubelet's polling": 2, "pull p50": 2, "daemon restart": 1,
		"stats of all pods p50": 0, // Unimplemented: no row at all
	} {
		if columns[figure] != want {
			t.Errorf("%s: %d values, want %d", figure, columns[figure], want)
		}
	}
	for _, f := range []*fake{a, b} {
		if len(f.pods) != 0 || len(f.ctrs) != 0 {
			t.Errorf("left: %v %v", f.pods, f.ctrs)
		}
	}
}

func TestFailureNamesTheRuntimeAndCleansUp(t *testing.T) {
	f, socket := serve(t)
	f.failures = 3
	out, err := capture(t, func() error {
		return run(t.Context(), []string{"-phases", "burst", "-parallel", "1", "sick=" + socket})
	})
	if err == nil || !strings.Contains(err.Error(), "sick: StartContainer: ") {
		t.Errorf("got %v", err)
	}
	if out != "" {
		t.Errorf("prints %q", out)
	}
	if len(f.pods) != 0 {
		t.Errorf("left: %v", f.pods)
	}
}

func TestWrongArguments(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "at least one runtime"},
		{[]string{"/run/x.sock"}, "not NAME=SOCKET"},
		{[]string{"a=/x", "a=/y"}, "two runtimes"},
		{[]string{"-phases", "nap", "a=/x"}, "nap"},
		{[]string{"-restart", "b=true", "a=/x"}, "no such runtime"},
		{[]string{"-processes", "a=(", "a=/x"}, "missing closing"},
		{[]string{"-rounds", "0", "a=/x"}, "-rounds must be"},
		{[]string{"a=/not/there.sock"}, "a: Version"},
	} {
		if err := run(t.Context(), tt.args); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: got %v, want %q", tt.args, err, tt.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	var d []time.Duration
	for i := range 100 {
		d = append(d, time.Duration(100-i))
	}
	for p, want := range map[int]time.Duration{50: 50, 95: 95, 100: 100, 1: 1} {
		if got := percentile(d, p); got != want {
			t.Errorf("p%d of 1..100: %d, want %d", p, got, want)
		}
	}
	if got := percentile(d[:1], 95); got != 100 {
		t.Errorf("p95 of one value: %d", got)
	}
}

func TestParseProc(t *testing.T) {
	p, err := parseStat([]byte("77 (a) b (c) S 12 77 77 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5 6"))
	if err != nil || p.parent != 12 || p.cpu != time.Second {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := parseStat([]byte("77 (a S 12")); err == nil {
		t.Error("a broken line passed")
	}
	if got := parsePSS([]byte("00400000-7fff ---p 0\nRss:  10 kB\nPss:   7 kB\nPss_Dirty: 1 kB\n")); got != 7<<10 {
		t.Errorf("PSS %d", got)
	}
}

// TestBelongs tells a runtime's processes from others.
func TestBelongs(t *testing.T) {
	everyone := map[int]process{
		10: {parent: 1, command: "/usr/bin/containerd"},
		11: {parent: 10, command: "/opt/cni/bin/bridge"},
		12: {parent: 1, command: "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -address /run/one/containerd.sock"},
		13: {parent: 1, command: "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -address /run/two/containerd.sock"},
		14: {parent: 12, command: "/a-pause-of-another-name"},
		15: {parent: 1, command: "/usr/bin/conmon -b /run/containers/x"},
		16: {parent: 1, command: "vi containerd"},
		20: {parent: 1, command: "/usr/bin/strange --helper"},
	}
	s := &subject{options: &options{}, socket: "/run/one/containerd.sock"}
	before := &look{everyone: map[int]process{10: {}, 13: {}, 16: {}, 20: {}}, processes: map[int]process{10: {}}}
	find := func(earlier *look) (pids []int) {
		for pid := range everyone {
			if s.belongs(everyone, pid, 10, earlier) {
				pids = append(pids, pid)
			}
		}
		slices.Sort(pids)
		return pids
	}
	if got, want := find(nil), []int{10, 11, 12, 14}; !slices.Equal(got, want) {
		t.Errorf("at first %v, want %v", got, want)
	}
	if got, want := find(before), []int{10, 11, 12, 14, 15}; !slices.Equal(got, want) {
		t.Errorf("later %v, want %v", got, want)
	}
}
