package container

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type limits = runtimeapi.LinuxContainerResources

func TestMerged(t *testing.T) {
	old := &limits{
		CpuPeriod: 1, CpuQuota: 2, CpuShares: 3, MemoryLimitInBytes: 4, OomScoreAdj: 5, CpusetCpus: "0", CpusetMems: "0", MemorySwapLimitInBytes: 8,
		HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 6}, {PageSize: "1GB", Limit: 7}},
		Unified:        map[string]string{"memory.min": "1", "memory.low": "2"},
	}
	with := func(change func(*limits)) *limits {
		l := merged(old, nil)
		change(l)
		return l
	}
	for name, tc := range map[string]struct{ old, change, want *limits }{
		"nothing":           {old, nil, old},
		"all zero":          {old, &limits{}, old},
		"a cpuset alone":    {old, &limits{CpusetCpus: "1-2"}, with(func(l *limits) { l.CpusetCpus = "1-2" })},
		"no quota any more": {old, &limits{CpuQuota: -1}, with(func(l *limits) { l.CpuQuota = -1 })},
		"all numbers": {old, &limits{CpuPeriod: 10, CpuQuota: 20, CpuShares: 30, OomScoreAdj: 50, MemoryLimitInBytes: 40, MemorySwapLimitInBytes: 80}, with(func(l *limits) {
			l.CpuPeriod, l.CpuQuota, l.CpuShares, l.OomScoreAdj, l.MemoryLimitInBytes, l.MemorySwapLimitInBytes = 10, 20, 30, 50, 40, 80
		})},
		"one key of several": {old, &limits{Unified: map[string]string{"memory.low": "9", "cpu.idle": "1"}}, with(func(l *limits) { l.Unified = map[string]string{"memory.min": "1", "memory.low": "9", "cpu.idle": "1"} })},
		"one page size of two": {old, &limits{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 9}}}, with(func(l *limits) {
			l.HugepageLimits = []*runtimeapi.HugepageLimit{{PageSize: "1GB", Limit: 7}, {PageSize: "2MB", Limit: 9}}
		})},
		"memory, some may swap": {old, &limits{MemoryLimitInBytes: 5}, with(func(l *limits) { l.MemoryLimitInBytes = 5 })},
		"memory, none may swap": {&limits{MemoryLimitInBytes: 4, MemorySwapLimitInBytes: 4}, &limits{MemoryLimitInBytes: 2}, &limits{MemoryLimitInBytes: 2, MemorySwapLimitInBytes: 2}},
		"nothing before":        {nil, &limits{CpuShares: 2}, &limits{CpuShares: 2}},
	} {
		if d := cmp.Diff(tc.want, merged(tc.old, tc.change), protocmp.Transform()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if d := cmp.Diff(old, merged(old, nil), protocmp.Transform()); d != "" || merged(old, nil) == old {
		t.Errorf("the old limits were changed: %s", d)
	}
}

// The limits of an update outlive the daemon; a record without any has those of
// its creation.
func TestLimitsAreRestored(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "id")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	five, seven := 5, 7
	r := &Record{
		Version: recordVersion, ID: "id", Resources: &specs.LinuxResources{},
		Config: &runtimeapi.ContainerConfig{Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Linux: &runtimeapi.LinuxContainerConfig{Resources: &limits{CpuShares: 2}}},
	}
	r.Launch.OOMScoreAdj = &five
	for name, v := range map[string]any{recordFile: r, statusFile: &Status{Version: recordVersion, State: Created}, specFile: &specs.Spec{Linux: &specs.Linux{}, Process: &specs.Process{}}} {
		if err := atomicfile.WriteJSON(filepath.Join(dir, name), v); err != nil {
			t.Fatal(err)
		}
	}
	restore := func() (*Container, error) {
		c, err := load(dir)
		if err != nil {
			t.Fatal(err)
		}
		return c, c.loadLimits()
	}
	c, err := restore()
	if err != nil {
		t.Fatal(err)
	}
	if l := c.Limits(); l.Config.CpuShares != 2 || *l.OOMScoreAdj != 5 || *c.prepared(c.rec.Launch).OOMScoreAdj != 5 {
		t.Errorf("of its creation: %+v", l)
	}
	shares := uint64(9)
	if err := c.storeLimits(&Limits{Version: recordVersion, Config: &limits{CpuShares: 9}, Resources: &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}}, OOMScoreAdj: &seven}); err != nil {
		t.Fatal(err)
	}
	if c, err = restore(); err != nil {
		t.Fatal(err)
	}
	if l := c.Limits(); l.Config.CpuShares != 9 || *l.Resources.CPU.Shares != 9 || *c.prepared(c.rec.Launch).OOMScoreAdj != 7 {
		t.Errorf("of the update: %+v", l)
	}
	if sp, err := c.Spec(); err != nil || *sp.Linux.Resources.CPU.Shares != 9 || *sp.Process.OOMScoreAdj != 7 {
		t.Errorf("spec: %+v, %v", sp, err)
	}
	for name, text := range map[string]string{"half a file": "{", "another version": `{"version":99,"resources":{}}`, "nothing in it": `{"version":1}`} {
		if err := os.WriteFile(filepath.Join(dir, limitsFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := restore(); err == nil || c.Limits().Config.CpuShares != 2 {
			t.Errorf("%s: %+v, %v", name, c.Limits(), err)
		}
	}
}

// What the CRI has no words for outlives a change in its words.
func TestCarry(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	u := func(v uint64) *uint64 { return &v }
	limit := func(v int64) *specs.LinuxMemory { return &specs.LinuxMemory{Limit: &v} }
	for name, tc := range map[string]struct{ to, from, want specs.LinuxResources }{
		"nothing": {},
		"the CRI's is not taken over": {
			from: specs.LinuxResources{Memory: limit(1), CPU: &specs.LinuxCPU{Shares: u(2)}, Unified: map[string]string{"a": "b"}},
		},
		"beside the CRI's": {
			to:   specs.LinuxResources{Memory: limit(3)},
			from: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(1), Reservation: n(2)}, Pids: &specs.LinuxPids{Limit: n(4)}, CPU: &specs.LinuxCPU{Shares: u(9), RealtimeRuntime: n(5)}},
			want: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(3), Reservation: n(2)}, Pids: &specs.LinuxPids{Limit: n(4)}, CPU: &specs.LinuxCPU{RealtimeRuntime: n(5)}},
		},
		"the later counts": {
			to:   specs.LinuxResources{Pids: &specs.LinuxPids{Limit: n(1)}, Memory: &specs.LinuxMemory{Swappiness: u(1)}},
			from: specs.LinuxResources{Pids: &specs.LinuxPids{Limit: n(2)}, Memory: &specs.LinuxMemory{Swappiness: u(0)}},
			want: specs.LinuxResources{Pids: &specs.LinuxPids{Limit: n(2)}, Memory: &specs.LinuxMemory{Swappiness: u(0)}},
		},
	} {
		before := tc.to.Memory
		carry(&tc.to, &tc.from)
		if d := cmp.Diff(tc.want, tc.to); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if before != nil && before == tc.to.Memory {
			t.Errorf("%s: limits that others may hold were changed", name)
		}
	}
	carry(&specs.LinuxResources{}, nil)
}
