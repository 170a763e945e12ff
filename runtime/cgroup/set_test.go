package cgroup

import (
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// limits reads what this host calls the usual limits.
func limits(t testing.TB, c *Cgroup) map[string]string {
	t.Helper()
	files := map[string]string{
		"cpu.shares": "cpu", "cpu.cfs_quota_us": "cpu", "cpu.cfs_period_us": "cpu", "pids.max": "pids", "cpuset.cpus": "cpuset",
		"memory.limit_in_bytes": "memory", "memory.memsw.limit_in_bytes": "memory", "memory.soft_limit_in_bytes": "memory",
	}
	if c.m.mode == V2 {
		files = map[string]string{
			"cpu.weight": "cpu", "cpu.max": "cpu", "pids.max": "pids", "cpuset.cpus": "cpuset",
			"memory.max": "memory", "memory.swap.max": "memory", "memory.low": "memory",
		}
	}
	got := map[string]string{}
	for name, controller := range files {
		got[name] = file(t, c, controller, name)
	}
	return got
}

func TestLimitsReachTheKernel(t *testing.T) {
	m := host(t)
	c := create(t, m, "one", &specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(30000)), Period: ptr(uint64(60000)), Cpus: "0"},
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20)), Reservation: ptr(int64(32 << 20))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(77))},
	})
	want := map[string]string{
		"cpu.shares": "512", "cpu.cfs_quota_us": "30000", "cpu.cfs_period_us": "60000", "pids.max": "77", "cpuset.cpus": "0",
		"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "67108864", "memory.soft_limit_in_bytes": "33554432",
		"cpu.weight": "59", "cpu.max": "30000 60000", "memory.max": "67108864", "memory.swap.max": "0", "memory.low": "33554432",
	}
	for name, got := range limits(t, c) {
		if got != want[name] {
			t.Errorf("%s is %q, want %q", name, got, want[name])
		}
	}
}

func TestSetUpAndDown(t *testing.T) {
	m := host(t)
	c := create(t, m, "one", &specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Quota: ptr(int64(100000)), Period: ptr(uint64(100000))},
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20))},
	})
	for _, step := range []struct {
		memory        int64
		quota, period int64
	}{
		{256 << 20, 400000, 200000}, // both grow: with the wrong order the kernel refuses
		{32 << 20, 5000, 10000},     // both shrink
		{64 << 20, 1000000, 1000000},
	} {
		err := c.Set(&specs.LinuxResources{
			CPU:    &specs.LinuxCPU{Quota: &step.quota, Period: ptr(uint64(step.period))},
			Memory: &specs.LinuxMemory{Limit: &step.memory, Swap: &step.memory},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := limits(t, c)
		memory := got["memory.limit_in_bytes"] + got["memory.max"]
		quota := got["cpu.cfs_quota_us"]
		if m.mode == V2 {
			quota, _, _ = strings.Cut(got["cpu.max"], " ")
		}
		if memory != itoa(step.memory) || quota != itoa(step.quota) {
			t.Errorf("%+v: %v", step, got)
		}
	}
	if err := c.Set(&specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}, Memory: &specs.LinuxMemory{Limit: ptr(int64(-1))}}); err != nil {
		t.Fatalf("unlimited: %v", err)
	}
	if got := limits(t, c); got["cpu.cfs_quota_us"] != "-1" && !strings.HasPrefix(got["cpu.max"], "max") {
		t.Errorf("unlimited: %v", got)
	}
}

func TestSetIsAllOrNothing(t *testing.T) {
	m := host(t)
	c := create(t, m, "one", &specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000))},
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20)), Reservation: ptr(int64(1 << 20))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(77))},
	})
	before := limits(t, c)
	good := specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(2048)), Quota: ptr(int64(300000)), Period: ptr(uint64(200000)), Cpus: "0"},
		Memory: &specs.LinuxMemory{Limit: ptr(int64(128 << 20)), Swap: ptr(int64(128 << 20)), Reservation: ptr(int64(2 << 20))},
	}
	for name, spoil := range map[string]func(*specs.LinuxResources){
		"the kernel refuses the last": func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: ptr(int64(1 << 40))} },
		"devices":                     func(r *specs.LinuxResources) { r.Devices = []specs.LinuxDeviceCgroup{{Access: "rwm"}} },
		"an unknown file":             func(r *specs.LinuxResources) { r.Unified = map[string]string{"memory.nothing": "1"} },
	} {
		t.Run(name, func(t *testing.T) {
			res := good
			spoil(&res)
			if err := c.Set(&res); err == nil {
				t.Fatal("accepted")
			}
			for file, now := range limits(t, c) {
				if now != before[file] {
					t.Errorf("%s is %q, was %q", file, now, before[file])
				}
			}
		})
	}
	if err := c.Set(&good); err != nil {
		t.Errorf("without what spoils it: %v", err)
	}
	if err := c.Set(nil); err != nil {
		t.Error(err)
	}
}

func TestSetChecksUsageWhenAsked(t *testing.T) {
	m := host(t)
	c := create(t, m, "one", nil)
	cmd, release := process(t, "hold") // 8 MiB
	join(t, c, cmd.Process.Pid)
	release()
	file := "memory.usage_in_bytes"
	if m.mode == V2 {
		file = "memory.current"
	}
	for deadline := time.Now().Add(20 * time.Second); len(c.now("memory", file)) < 7; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("usage stays at %s", c.now("memory", file))
		}
	}
	res := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 19)), CheckBeforeUpdate: ptr(true)}}
	if err := c.Set(res); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a limit below the usage: %v", err)
	}
}

func TestMissingControllerNamesTheField(t *testing.T) {
	m := onlyTracking(t)
	if _, ok := m.place["memory"]; ok {
		t.Skip("the cgroup2 has the memory controller here")
	}
	p, _ := m.Path("", "pod", "one")
	_, err := m.Create(t.Context(), p, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 30))}})
	if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "memory.limit") {
		t.Errorf("a limit: %v", err)
	}
	c := create(t, m, "one", &specs.LinuxResources{
		Memory:         &specs.LinuxMemory{Limit: ptr(int64(-1))},
		CPU:            &specs.LinuxCPU{Quota: ptr(int64(-1)), Shares: ptr(uint64(1024))},
		Pids:           &specs.LinuxPids{Limit: ptr(int64(-1))},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "16GB"}},
	})
	if err := c.Set(&specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(2))}}); !errdefs.IsNotImplemented(err) {
		t.Errorf("an update: %v", err)
	}
	if n, err := c.OOMKills(); err != nil || n != 0 {
		t.Errorf("oom kills: %d %v", n, err)
	}
}

func TestHugePagesWhereverTheirControllerIs(t *testing.T) {
	m := host(t)
	i, ok := m.place["hugetlb"]
	if !ok {
		t.Skip("no hugetlb controller here")
	}
	c := create(t, m, "one", &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}})
	name := "hugetlb.2MB.limit_in_bytes"
	if m.trees[i].v2 {
		name = "hugetlb.2MB.max"
	}
	if got := file(t, c, "hugetlb", name); got != "4194304" {
		t.Errorf("%s is %s", name, got)
	}
	// An exec's child still gets processes: its parent must not become one
	// whose children have controllers.
	child, err := c.Child("exec")
	if err != nil {
		t.Fatal(err)
	}
	cmd, _ := process(t, "sleep")
	join(t, c, cmd.Process.Pid)
	other, _ := process(t, "sleep")
	join(t, child, other.Process.Pid)
}

func TestUnifiedIsWritten(t *testing.T) {
	m := onlyTracking(t)
	c := create(t, m, "one", &specs.LinuxResources{Unified: map[string]string{"cgroup.max.depth": "3"}})
	b, err := os.ReadFile(c.tracked() + "/cgroup.max.depth")
	if err != nil || strings.TrimSpace(string(b)) != "3" {
		t.Errorf("%q %v", b, err)
	}
}

// What an update has set where nothing was set before can be taken back too.
func TestChangeRestored(t *testing.T) {
	m := host(t)
	c := create(t, m, "one", &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(512))}})
	before := limits(t, c)
	restore, err := c.Change(&specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(256)), Quota: ptr(int64(30000)), Period: ptr(uint64(60000)), Cpus: "0"},
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(77))},
	})
	if err != nil {
		t.Fatal(err)
	}
	if now := limits(t, c); maps.Equal(now, before) {
		t.Errorf("nothing has changed: %v", now)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if now := limits(t, c); !maps.Equal(now, before) {
		t.Errorf("restored to %v, was %v", now, before)
	}
}
