package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func limited(r *runtimeapi.LinuxContainerResources) func(*runtimeapi.ContainerConfig) {
	return func(c *runtimeapi.ContainerConfig) { c.Linux.Resources = r }
}

// cgroupFile is the content of a file of a container's cgroup, by its name on
// cgroup v1 or v2.
func (n *node) cgroupFile(id, v1, v2 string) string {
	n.t.Helper()
	controller, _, _ := strings.Cut(v1, "/")
	path := filepath.Join("/sys/fs/cgroup", controller, inCgroup(n.cgroup, id), filepath.Base(v1))
	if exists("/sys/fs/cgroup/cgroup.controllers") {
		path = filepath.Join("/sys/fs/cgroup", inCgroup(n.cgroup, id), v2)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestLimits(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("limits", hostNetwork))
	v2 := exists("/sys/fs/cgroup/cgroup.controllers")
	for name, tc := range map[string]struct {
		resources *runtimeapi.LinuxContainerResources
		v1, v2    string
		want      string
		want2     string
	}{
		"shares":          {&runtimeapi.LinuxContainerResources{CpuShares: 512}, "cpu/cpu.shares", "cpu.weight", "512", "59"},
		"fewest shares":   {&runtimeapi.LinuxContainerResources{CpuShares: 2}, "cpu/cpu.shares", "cpu.weight", "2", "1"},
		"quota":           {&runtimeapi.LinuxContainerResources{CpuQuota: 25000, CpuPeriod: 50000}, "cpu/cpu.cfs_quota_us", "cpu.max", "25000", "25000 50000"},
		"period":          {&runtimeapi.LinuxContainerResources{CpuQuota: 25000, CpuPeriod: 50000}, "cpu/cpu.cfs_period_us", "cpu.max", "50000", "25000 50000"},
		"no quota":        {&runtimeapi.LinuxContainerResources{CpuQuota: -1}, "cpu/cpu.cfs_quota_us", "cpu.max", "-1", "max 100000"},
		"memory":          {&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20}, "memory/memory.limit_in_bytes", "memory.max", "67108864", "67108864"},
		"no memory limit": {&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: -1}, "memory/memory.limit_in_bytes", "memory.max", "9223372036854771712", "max"},
		"CPUs":            {&runtimeapi.LinuxContainerResources{CpusetCpus: "0"}, "cpuset/cpuset.cpus", "cpuset.cpus", "0", "0"},
		"nodes":           {&runtimeapi.LinuxContainerResources{CpusetMems: "0"}, "cpuset/cpuset.mems", "cpuset.mems", "0", "0"},
		"the kubelet's huge pages": {&runtimeapi.LinuxContainerResources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB"}, {PageSize: "1GB"}}},
			"pids/pids.max", "pids.max", "max", "max"},
	} {
		n.sub(name, func(n *node) {
			id := n.run(pod, containerConfig(strings.ReplaceAll(name, " ", "-"), "sleep 1000; :", limited(tc.resources)))
			want := tc.want
			if v2 {
				want = tc.want2
			}
			if got := n.cgroupFile(id, tc.v1, tc.v2); got != want {
				n.t.Errorf("%s: %q, want %q", tc.v1, got, want)
			}
			n.stop(id, 0)
		})
	}
	// The container sees its own limits, as the JVM and others read them.
	readonly := own("no\n", "") // runc leaves the directory above the hierarchies writable
	sees := n.run(pod, containerConfig("own", "sleep 1000; :", limited(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 48 << 20, CpusetCpus: "0"})))
	see := "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max; grep Cpus_allowed_list /proc/self/status | cut -f2; touch /sys/fs/cgroup/x 2>/dev/null || echo no; " +
		"ls /sys/fs/cgroup/memory | grep -c berth"
	if out, _ := n.exec(sees, see); out != "50331648\n0\n"+readonly+"0\n" && !v2 {
		t.Errorf("its own cgroup: %q", out)
	}
	if out, _ := n.exec(sees, "grep -c . /proc/self/cgroup"); out == "0\n" {
		t.Errorf("cgroups: %q", out)
	}
	// Every process of it is in them: the program, its children, execs.
	tree := n.run(pod, containerConfig("tree", "setsid sleep 1001 & sleep 1002 & wait"))
	n.exec(tree, "sleep 1003 >/dev/null 2>&1 &")
	roots, _ := filepath.Glob("/sys/fs/cgroup/*" + n.cgroup + "/" + tree)
	if v2 {
		roots = []string{"/sys/fs/cgroup" + inCgroup(n.cgroup, tree)}
	}
	if len(roots) == 0 {
		t.Error("no cgroup of the container")
	}
	for _, root := range roots {
		eventually(t, 10*time.Second, root+" has four processes", func() error {
			procs := 0
			filepath.WalkDir(root, func(path string, _ os.DirEntry, _ error) error {
				if filepath.Base(path) == "cgroup.procs" {
					b, _ := os.ReadFile(path)
					procs += strings.Count(string(b), "\n")
				}
				return nil
			})
			if procs != 4 {
				return fmt.Errorf("%d", procs)
			}
			return nil
		})
	}
	for name, tc := range map[string]struct {
		resources *runtimeapi.LinuxContainerResources
		code      codes.Code
		word      string
	}{
		"CPU that is not there":  {&runtimeapi.LinuxContainerResources{CpusetCpus: "500"}, codes.InvalidArgument, "cpu"},
		"node that is not there": {&runtimeapi.LinuxContainerResources{CpusetMems: "77"}, codes.InvalidArgument, "mems"},
		"too little memory":      {&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 4096}, codes.ResourceExhausted, "memory limit"},
	} {
		id, err := n.create(pod, containerConfig(strings.ReplaceAll(name, " ", "-"), "true", limited(tc.resources)))
		if err == nil {
			_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
			if st := n.status(id); err != nil && (st.Reason != "StartError" || st.Message == "") {
				t.Errorf("%s: %v", name, st)
			}
		}
		wantCode(t, name, err, tc.code, tc.word)
	}
	if left := cgroupsBelow(n.cgroup); len(left) > 0 {
		for _, dir := range left {
			if !strings.Contains(dir, sees) && !strings.Contains(dir, tree) && !ofPod(dir) {
				t.Errorf("a cgroup of a container that has ended or did not start: %s", dir)
			}
		}
	}
}

// Memory and swap together: without a word about swap there is none.
func TestSwapLimits(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("swap", hostNetwork))
	v2, _ := filepath.Glob("/sys/fs/cgroup/*/memory.swap.max")
	counted := len(v2) > 0 || exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	const memory = 64 << 20
	for name, tc := range map[string]struct {
		both         int64
		want1, want2 string
	}{
		"no word":   {0, "67108864", "0"},
		"none":      {memory, "67108864", "0"},
		"half":      {memory + memory/2, "100663296", "33554432"},
		"unlimited": {-1, "9223372036854771712", "max"},
	} {
		id, err := n.create(pod, containerConfig(strings.ReplaceAll(name, " ", "-"), "sleep 1000; :", limited(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: memory, MemorySwapLimitInBytes: tc.both})))
		if !counted && tc.both != 0 && tc.both != memory {
			wantCode(t, name+" where swap is not counted", err, codes.FailedPrecondition, "memory_swap_limit_in_bytes")
			continue
		}
		if err == nil {
			_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
		}
		if err != nil {
			t.Fatal(err)
		}
		if counted {
			want := tc.want1
			if len(v2) > 0 {
				want = tc.want2
			}
			if got := n.cgroupFile(id, "memory/memory.memsw.limit_in_bytes", "memory.swap.max"); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if r := n.status(id).Resources.GetLinux(); r.GetMemorySwapLimitInBytes() != tc.both {
			t.Errorf("%s: in the status: %v", name, r)
		}
	}
}

const eat = "x=a; while :; do x=$x$x; done"

func TestOOM(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("oom", hostNetwork))
	little := limited(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 16 << 20})
	for name, tc := range map[string]struct {
		script string
		change []func(*runtimeapi.ContainerConfig)
		code   int32
		reason string
	}{
		"the program":          {eat, []func(*runtimeapi.ContainerConfig){little}, 137, "OOMKilled"},
		"a child, told":        {"sh -c '" + eat + "'; exit $?", []func(*runtimeapi.ContainerConfig){little}, 137, "OOMKilled"},
		"a child, handled":     {"sh -c '" + eat + "'; exit 0", []func(*runtimeapi.ContainerConfig){little}, 0, "Completed"},
		"a child, other code":  {"sh -c '" + eat + "'; exit 3", []func(*runtimeapi.ContainerConfig){little}, 3, "Error"},
		"killed by itself":     {"sh -c 'kill -9 $$'; exit 137", []func(*runtimeapi.ContainerConfig){little}, 137, "Error"},
		"137 without a signal": {"exit 137", nil, 137, "Error"},
	} {
		n.sub(name, func(n *node) {
			st := n.wait(n.run(pod, containerConfig(strings.NewReplacer(" ", "-", ",", "").Replace(name), tc.script, tc.change...)))
			if st.ExitCode != tc.code || st.Reason != tc.reason {
				n.t.Errorf("exit %d, %s; want %d, %s", st.ExitCode, st.Reason, tc.code, tc.reason)
			}
		})
	}
	// While nobody watches.
	id := n.run(pod, containerConfig("unseen", "sleep 0.5; "+eat, little))
	n.kill()
	time.Sleep(1500 * time.Millisecond)
	n.start()
	if st := n.wait(id); st.ExitCode != 137 || st.Reason != "OOMKilled" {
		t.Errorf("while the daemon was dead: exit %d, %s", st.ExitCode, st.Reason)
	}
}

func TestOOMScore(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("score", hostNetwork))
	own := strings.TrimSpace(command("cat", "/proc/self/oom_score_adj"))
	lowest := "-998\n"
	if !strings.Contains(command("cat", "/proc/self/status"), "CapBnd:\t000001ffffffffff") {
		lowest = own + "\n" // without CAP_SYS_RESOURCE no lower than the daemon's own
	}
	score := func(v int64) func(*runtimeapi.ContainerConfig) {
		return limited(&runtimeapi.LinuxContainerResources{OomScoreAdj: v})
	}
	n.inPod(pod, map[string]printed{
		"none":     {nil, "cat /proc/self/oom_score_adj", fmt.Sprintln(max(0, atoi(own)))},
		"high":     {score(1000), "cat /proc/self/oom_score_adj", "1000\n"},
		"middle":   {score(500), "cat /proc/self/oom_score_adj", "500\n"},
		"negative": {score(-998), "cat /proc/self/oom_score_adj", lowest},
	})
}

func atoi(s string) (v int) {
	fmt.Sscan(s, &v)
	return v
}
