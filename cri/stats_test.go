package cri

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-cri/berth/imageservice"
	"github.com/berth-cri/berth/runtime/cgroup"
	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/rootfs"
	"github.com/berth-cri/berth/trash"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// roots has writable layers that nobody has written to.
type roots struct{ container.Rootfs }

func (roots) Usage(context.Context, string) (rootfs.Usage, error) {
	return rootfs.Usage{Bytes: 8192, Inodes: 5, At: time.Now()}, nil
}

// measurable gives the containers of a server cgroups of this kernel.
func measurable(t testing.TB, s *Server) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("cgroups need root")
	}
	m, err := cgroup.Open(cgroup.Options{})
	if err != nil {
		t.Skipf("no cgroups here: %v", err)
	}
	dir := t.TempDir()
	bin, err := trash.Open(filepath.Join(dir, "trash"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Images, err = imageservice.Open(imageservice.Options{Root: dir, Bin: bin}); err != nil {
		t.Fatal(err)
	}
	s.Pods.Cgroups, s.Containers.Cgroups, s.Containers.Rootfs = m, m, roots{}
	top := fmt.Sprintf("/berth-test-%x-cri", rand.Uint64())
	t.Cleanup(func() { // the parents, which Berth leaves to the kubelet
		s.Images.Close()
		found, _ := filepath.Glob("/sys/fs/cgroup/*" + top)
		for _, dir := range append(found, "/sys/fs/cgroup"+top) {
			below, _ := filepath.Glob(dir + "/*")
			for _, pod := range below {
				os.Remove(pod)
			}
			os.Remove(dir)
		}
	})
	for _, p := range s.Pods.List() {
		p.Record().Config.Linux.CgroupParent = top + "/" + p.Record().Config.Metadata.Uid
	}
	for _, c := range s.Containers.List() {
		p, err := s.Pods.Get(c.Record().Pod)
		if err != nil {
			t.Fatal(err)
		}
		c.Record().Cgroup = p.Record().Config.Linux.CgroupParent + "/" + c.Record().ID
		cg, err := m.Create(t.Context(), c.Record().Cgroup, &specs.LinuxResources{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := cg.Remove(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Stats and metrics of 500 pods with a container each, encoded: the first time,
// and with the files open.
func BenchmarkStats(b *testing.B) {
	s := newServer(b, 500)
	measurable(b, s)
	ctx := context.Background()
	for name, call := range map[string]func() (proto.Message, error){
		"pods": func() (proto.Message, error) {
			return s.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{})
		},
		"containers": func() (proto.Message, error) {
			return s.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
		},
		"metrics": func() (proto.Message, error) {
			return s.ListPodSandboxMetrics(ctx, &runtimeapi.ListPodSandboxMetricsRequest{})
		},
	} {
		b.Run(name, func(b *testing.B) {
			once := func() {
				r, err := call()
				if err != nil {
					b.Fatal(err)
				}
				if wire, err := proto.Marshal(r); err != nil || len(wire) < 500*500 {
					b.Fatal(len(wire), err)
				}
			}
			once()
			before := processorTime(b)
			for b.Loop() {
				once()
			}
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// processorTime is what this process has used: on a busy machine it says more
// than the time that has passed.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
