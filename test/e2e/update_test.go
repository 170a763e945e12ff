package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type resources = runtimeapi.LinuxContainerResources

func (n *node) update(id string, r *resources) error {
	_, err := n.rt.UpdateContainerResources(n.ctx(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: r})
	return err
}

// limit reads a file of a container's cgroup by one of its names: on v1, on v2.
func (n *node) limit(id string, names ...string) string {
	n.t.Helper()
	for _, name := range names {
		found, _ := filepath.Glob("/sys/fs/cgroup/*" + n.cgroup + "/" + id + "/" + name)
		for _, path := range append(found, "/sys/fs/cgroup"+inCgroup(n.cgroup, id)+"/"+name) {
			if b, err := os.ReadFile(path); err == nil {
				return strings.TrimSpace(string(b))
			}
		}
	}
	n.t.Fatalf("no file %v of container %s", names, id)
	return ""
}

func (n *node) memoryLimit(id string) string {
	n.t.Helper()
	return n.limit(id, "memory.limit_in_bytes", "memory.max")
}

func (n *node) shares(id string) string {
	n.t.Helper()
	return n.limit(id, "cpu.shares", "cpu.weight")
}

// weight is what shares are here.
func weight(v1, v2 string) string {
	if exists("/sys/fs/cgroup/cgroup.controllers") {
		return v2
	}
	return v1
}

func TestUpdateOfARunningContainer(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("grows"))
	id := n.run(pod, containerConfig("c", "sleep 1000", limits(&resources{CpuShares: 512, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 500})))
	check := func(what, memory, shares string, want *resources) {
		t.Helper()
		if got := n.memoryLimit(id); got != memory {
			t.Errorf("%s: the memory limit is %s, want %s", what, got, memory)
		}
		if got := n.shares(id); got != shares {
			t.Errorf("%s: the CPU shares are %s, want %s", what, got, shares)
		}
		r := n.status(id).Resources.Linux
		if r.MemoryLimitInBytes != want.MemoryLimitInBytes || r.CpuShares != want.CpuShares || r.OomScoreAdj != want.OomScoreAdj || r.CpuQuota != want.CpuQuota {
			t.Errorf("%s: status tells %v, want %v", what, r, want)
		}
	}
	check("before", "67108864", weight("512", "59"), &resources{MemoryLimitInBytes: 64 << 20, CpuShares: 512, OomScoreAdj: 500})

	if err := n.update(id, &resources{MemoryLimitInBytes: 128 << 20}); err != nil {
		t.Fatal(err)
	}
	check("memory", "134217728", weight("512", "59"), &resources{MemoryLimitInBytes: 128 << 20, CpuShares: 512, OomScoreAdj: 500})
	if err := n.update(id, &resources{CpuShares: 1024, CpuQuota: 50000, CpuPeriod: 100000, OomScoreAdj: 700}); err != nil {
		t.Fatal(err)
	}
	now := &resources{MemoryLimitInBytes: 128 << 20, CpuShares: 1024, OomScoreAdj: 700, CpuQuota: 50000}
	check("CPU", "134217728", weight("1024", "100"), now)
	for script, what := range map[string]string{"cat /proc/1/oom_score_adj": "its first process", "cat /proc/self/oom_score_adj": "a command in it"} {
		// runc gives a command the score of the container's creation: it is set right
		// a moment after its start.
		if got := n.must(id, own("", "sleep 0.5; ")+script); got != "700\n" {
			t.Errorf("oom_score_adj of %s is %q", what, got)
		}
	}
	if r, err := n.rt.ContainerStats(n.ctx(), &runtimeapi.ContainerStatsRequest{ContainerId: id}); err != nil ||
		r.Stats.Memory.AvailableBytes.Value+r.Stats.Memory.WorkingSetBytes.Value != 128<<20 {
		t.Errorf("stats: %v, %v", r, err)
	}

	// Nothing of a change that fails in any part.
	for name, tc := range map[string]struct {
		change *resources
		code   codes.Code
		word   string
	}{
		"no such processor":       {&resources{CpuShares: 2, MemoryLimitInBytes: 96 << 20, CpusetCpus: "4000"}, codes.InvalidArgument, "cpu"},
		"no list of processors":   {&resources{CpuShares: 2, CpusetCpus: "a"}, codes.InvalidArgument, "cpuset_cpus"},
		"negative shares":         {&resources{MemoryLimitInBytes: 96 << 20, CpuShares: -1}, codes.InvalidArgument, "cpu_shares"},
		"less than is used":       {&resources{CpuShares: 2, MemoryLimitInBytes: 4096}, codes.FailedPrecondition, "usage"},
		"swap below memory":       {&resources{CpuShares: 2, MemorySwapLimitInBytes: 96 << 20}, codes.InvalidArgument, "memory_swap_limit_in_bytes"},
		"absurd period":           {&resources{MemoryLimitInBytes: 96 << 20, CpuPeriod: 5}, codes.InvalidArgument, "cpu_period"},
		"oom_score_adj too large": {&resources{MemoryLimitInBytes: 96 << 20, OomScoreAdj: 1001}, codes.InvalidArgument, "oom_score_adj"},
	} {
		wantCode(t, name, n.update(id, tc.change), tc.code, tc.word)
		check(name, "134217728", weight("1024", "100"), now)
	}
	_, err := n.rt.UpdateContainerResources(n.ctx(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: &resources{CpuShares: 2}, Annotations: map[string]string{"a": "b"}})
	wantCode(t, "annotations", err, codes.InvalidArgument, "annotations")
	_, err = n.rt.UpdateContainerResources(n.ctx(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: &resources{CpuShares: 2}, Windows: &runtimeapi.WindowsContainerResources{}})
	wantCode(t, "windows", err, codes.InvalidArgument, "windows")
	wantCode(t, "nothing at all", n.update(id, nil), codes.InvalidArgument, "linux")
	wantCode(t, "unknown container", n.update("none", &resources{CpuShares: 2}), codes.NotFound)

	n.restart()
	check("after a restart", "134217728", weight("1024", "100"), now)
	if err := n.update(id, &resources{CpuShares: 256}); err != nil {
		t.Fatal(err)
	}
	now.CpuShares = 256
	check("after a restart and one more", "134217728", weight("256", "35"), now)

	n.stop(id, 0)
	wantCode(t, "exited container", n.update(id, &resources{CpuShares: 2}), codes.FailedPrecondition, "exited")
}

func TestUpdateOfACreatedContainer(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("later"))
	id, err := n.create(pod, containerConfig("c", "sleep 1000", limits(&resources{CpuShares: 512})))
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "a bad change", n.update(id, &resources{CpuShares: 2, CpusetCpus: "x"}), codes.InvalidArgument)
	if err := n.update(id, &resources{MemoryLimitInBytes: 64 << 20, OomScoreAdj: 600}); err != nil {
		t.Fatal(err)
	}
	n.restart()
	if r := n.status(id).Resources.Linux; r.MemoryLimitInBytes != 64<<20 || r.CpuShares != 512 || r.OomScoreAdj != 600 {
		t.Errorf("status: %v", r)
	}
	if _, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	if got := n.memoryLimit(id); got != "67108864" {
		t.Errorf("memory limit: %s", got)
	}
	if got := n.must(id, "cat /proc/1/oom_score_adj"); got != "600\n" {
		t.Errorf("oom_score_adj: %q", got)
	}
	r, err := n.rt.ContainerStatus(n.ctx(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil || !strings.Contains(r.Info["info"], `"limit":67108864`) {
		t.Errorf("spec in the verbose status: %v, %v", r.GetInfo(), err)
	}
}

// A change that could not be written down is taken back in the kernel.
func TestUpdateThatIsNotRecorded(t *testing.T) {
	n := newNode(t, faults("container.update.record=1*error(disk)->off"))
	n.pull(busybox)
	pod := n.pod(n.podConfig("back"))
	id := n.run(pod, containerConfig("c", "sleep 1000", limits(&resources{CpuShares: 512})))
	memory, shares := n.memoryLimit(id), n.shares(id)
	change := &resources{CpuShares: 1024, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 300}
	if err := n.update(id, change); err == nil {
		t.Fatal("the fault did not show")
	}
	if m, s := n.memoryLimit(id), n.shares(id); m != memory || s != shares {
		t.Errorf("memory limit %s, was %s; shares %s, were %s", m, memory, s, shares)
	}
	if r := n.status(id).Resources.Linux; r.CpuShares != 512 || r.MemoryLimitInBytes != 0 {
		t.Errorf("status: %v", r)
	}
	if got := n.must(id, "cat /proc/1/oom_score_adj"); got == "300\n" {
		t.Error("oom_score_adj was not taken back")
	}
	if err := n.update(id, change); err != nil {
		t.Fatal(err)
	}
	if m := n.memoryLimit(id); m != "67108864" {
		t.Errorf("the second time: %s", m)
	}
}

// Updates beside each other leave what the last one said, in the kernel as in
// the status.
func TestUpdatesTogether(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("many"))
	id := n.run(pod, containerConfig("c", "sleep 1000"))
	done := make(chan error)
	for i := range 8 {
		go func() { done <- n.update(id, &resources{CpuQuota: int64(10000 * (i + 1)), CpuPeriod: 100000}) }()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	quota, _, _ := strings.Cut(n.limit(id, "cpu.cfs_quota_us", "cpu.max"), " ")
	if r := n.status(id).Resources.Linux; fmt.Sprint(r.CpuQuota) != quota {
		t.Errorf("status tells %v, the kernel %s", r, quota)
	}
}

func TestUpdateOfAPod(t *testing.T) {
	n := newNode(t)
	cfg := n.podConfig("resized")
	pod := n.pod(cfg)
	update := func(id string, r *resources) error {
		_, err := n.rt.UpdatePodSandboxResources(n.ctx(), &runtimeapi.UpdatePodSandboxResourcesRequest{PodSandboxId: id, Overhead: &resources{CpuShares: 3}, Resources: r})
		return err
	}
	if err := update(pod, &resources{MemoryLimitInBytes: 123 << 20}); err != nil {
		t.Fatal(err)
	}
	n.restart()
	r, err := n.rt.PodSandboxStatus(n.ctx(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod, Verbose: true})
	if err != nil || !strings.Contains(r.Info["info"], fmt.Sprint(123<<20)) {
		t.Errorf("%v, %v", r.GetInfo(), err)
	}
	if again := n.pod(cfg); again != pod {
		t.Errorf("the same request makes another pod: %s", again)
	}
	wantCode(t, "negative", update(pod, &resources{CpuShares: -3}), codes.InvalidArgument, "resources.cpu_shares")
	wantCode(t, "unknown", update("none", nil), codes.NotFound)
	n.stopPod(pod)
	wantCode(t, "stopped", update(pod, nil), codes.FailedPrecondition, "notready")
}
