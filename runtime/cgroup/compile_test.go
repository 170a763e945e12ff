package cgroup

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// pure returns a manager of a host that need not be this one; nothing is
// mounted.
func pure(t testing.TB, mode Mode) *Manager {
	t.Helper()
	trees := map[Mode][]hierarchy{
		V1: {
			{mount: "/fake/cpu,cpuacct", controllers: []string{"cpu", "cpuacct"}},
			{mount: "/fake/memory", controllers: []string{"memory"}},
			{mount: "/fake/cpuset", controllers: []string{"cpuset"}},
			{mount: "/fake/pids", controllers: []string{"pids"}},
			{mount: "/fake/blkio", controllers: []string{"blkio"}},
			{mount: "/fake/hugetlb", controllers: []string{"hugetlb"}},
			{mount: "/fake/net", controllers: []string{"net_cls", "net_prio"}},
			{mount: "/fake/freezer", controllers: []string{"freezer"}},
			{mount: "/fake/systemd"},
		},
		V2: {{mount: "/fake", v2: true, controllers: strings.Fields("cpuset cpu io memory hugetlb pids rdma misc")}},
	}[mode]
	m, err := newManager(trees, Options{Driver: "cgroupfs"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// lines is what a new cgroup gets: one "file=value" each; in parentheses what is
// not written, since a new cgroup has it.
func lines(settings []setting) []string {
	var out []string
	for _, s := range settings {
		line := s.file + "=" + s.value
		if s.initial {
			line = "(" + line + ")"
		}
		if s.optional && !s.initial {
			line += " ?"
		}
		out = append(out, line)
	}
	return out
}

func TestCompile(t *testing.T) {
	for _, tt := range []struct {
		name   string
		res    specs.LinuxResources
		v1, v2 []string
	}{
		{name: "nothing"},
		{
			name: "zeros are not set",
			res: specs.LinuxResources{
				CPU:    &specs.LinuxCPU{Shares: ptr(uint64(0)), Quota: ptr(int64(0)), Period: ptr(uint64(0))},
				Memory: &specs.LinuxMemory{Limit: ptr(int64(0)), Swap: ptr(int64(0)), Reservation: ptr(int64(0))},
			},
		},
		{
			name: "a burstable container",
			res: specs.LinuxResources{
				CPU:    &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(20000)), Period: ptr(uint64(100000))},
				Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20))},
			},
			v1: []string{"cpu.shares=512", "(cpu.cfs_period_us=100000)", "cpu.cfs_quota_us=20000", "memory.limit_in_bytes=67108864", "memory.memsw.limit_in_bytes=67108864 ?"},
			v2: []string{"cpu.weight=59", "cpu.max=20000 100000", "memory.swap.max=0 ?", "memory.max=67108864"},
		},
		{
			name: "unlimited",
			res: specs.LinuxResources{
				CPU:    &specs.LinuxCPU{Quota: ptr(int64(-1)), Shares: ptr(uint64(1024))},
				Memory: &specs.LinuxMemory{Limit: ptr(int64(-1)), Reservation: ptr(int64(-1))},
				Pids:   &specs.LinuxPids{Limit: ptr(int64(-1))},
			},
			v1: []string{"(cpu.shares=1024)", "(cpu.cfs_quota_us=-1)", "(memory.limit_in_bytes=-1)", "(memory.memsw.limit_in_bytes=-1)", "(memory.soft_limit_in_bytes=-1)", "(pids.max=max)"},
			v2: []string{"(cpu.weight=100)", "(cpu.max=max)", "(memory.swap.max=max)", "(memory.max=max)", "(memory.low=0)", "(pids.max=max)"},
		},
		{
			name: "swap beyond memory",
			res:  specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 20)), Swap: ptr(int64(3 << 20))}},
			v1:   []string{"memory.limit_in_bytes=1048576", "memory.memsw.limit_in_bytes=3145728"},
			v2:   []string{"memory.swap.max=2097152", "memory.max=1048576"},
		},
		{
			name: "swap without a bound",
			res:  specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 20)), Swap: ptr(int64(-1)), Reservation: ptr(int64(1 << 19))}},
			v1:   []string{"memory.limit_in_bytes=1048576", "(memory.memsw.limit_in_bytes=-1)", "memory.soft_limit_in_bytes=524288"},
			v2:   []string{"(memory.swap.max=max)", "memory.max=1048576", "memory.low=524288"},
		},
		{
			name: "shares beyond the scale",
			res:  specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(1 << 40))}},
			v1:   []string{"cpu.shares=262144"},
			v2:   []string{"cpu.weight=10000"},
		},
		{
			name: "the kubelet's least shares",
			res:  specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(2))}},
			v1:   []string{"cpu.shares=2"},
			v2:   []string{"cpu.weight=1"},
		},
		{
			name: "idle goes after the shares that it forbids",
			res:  specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(2)), Idle: ptr(int64(1))}},
			v1:   []string{"cpu.shares=2", "cpu.idle=1"},
			v2:   []string{"cpu.weight=1", "cpu.idle=1"},
		},
		{
			name: "not idle goes before",
			res:  specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(2)), Idle: ptr(int64(0))}},
			v1:   []string{"(cpu.idle=0)", "cpu.shares=2"},
			v2:   []string{"(cpu.idle=0)", "cpu.weight=1"},
		},
		{
			name: "burst between a lifted and the new quota",
			res:  specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(50000)), Period: ptr(uint64(50000)), Burst: ptr(uint64(10000))}},
			v1:   []string{"cpu.cfs_period_us=50000", "cpu.cfs_burst_us=10000", "cpu.cfs_quota_us=50000"},
			v2:   []string{"(cpu.max=max)", "cpu.max.burst=10000", "cpu.max=50000 50000"},
		},
		{
			name: "a period alone",
			res:  specs.LinuxResources{CPU: &specs.LinuxCPU{Period: ptr(uint64(50000))}},
			v1:   []string{"cpu.cfs_period_us=50000"},
			v2:   []string{"cpu.max=max 50000"},
		},
		{
			name: "cpusets and pids",
			res:  specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0-1", Mems: "0"}, Pids: &specs.LinuxPids{Limit: ptr(int64(0))}},
			v1:   []string{"cpuset.cpus=0-1", "cpuset.mems=0", "pids.max=0"},
			v2:   []string{"cpuset.cpus=0-1", "cpuset.mems=0", "pids.max=0"},
		},
		{
			name: "huge pages",
			res:  specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}, {Pagesize: "1GB"}, {Pagesize: "64KB", Limit: 1<<64 - 1}}},
			v1: []string{
				"hugetlb.2MB.limit_in_bytes=4194304", "hugetlb.2MB.rsvd.limit_in_bytes=4194304 ?",
				"hugetlb.1GB.limit_in_bytes=0 ?", "hugetlb.1GB.rsvd.limit_in_bytes=0 ?",
				"(hugetlb.64KB.limit_in_bytes=-1)", "(hugetlb.64KB.rsvd.limit_in_bytes=-1)",
			},
			v2: []string{
				"hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304 ?", "hugetlb.1GB.max=0 ?", "hugetlb.1GB.rsvd.max=0 ?",
				"(hugetlb.64KB.max=max)", "(hugetlb.64KB.rsvd.max=max)",
			},
		},
		{
			name: "block devices",
			res: specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{
				Weight:                 ptr(uint16(500)),
				WeightDevice:           []specs.LinuxWeightDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: 8}, Weight: ptr(uint16(10))}},
				ThrottleReadBpsDevice:  []specs.LinuxThrottleDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: 8, Minor: 16}, Rate: 1000}},
				ThrottleWriteBpsDevice: []specs.LinuxThrottleDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: 8, Minor: 16}}},
			}},
			v1: []string{"blkio.bfq.weight=500", "blkio.bfq.weight_device=8:0 10", "blkio.throttle.read_bps_device=8:16 1000", "(blkio.throttle.write_bps_device=8:16 0)"},
			v2: []string{"io.bfq.weight=default 500", "io.bfq.weight=8:0 10", "io.max=8:16 rbps=1000", "(io.max=8:16 wbps=max)"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for mode, want := range map[Mode][]string{V1: tt.v1, V2: tt.v2} {
				got, err := compile(&tt.res, pure(t, mode), nil)
				if err != nil {
					t.Fatalf("%s: %v", mode, err)
				}
				if d := cmp.Diff(want, lines(got)); d != "" {
					t.Errorf("%s: %s", mode, d)
				}
			}
		})
	}
}

func TestCompileWithoutBFQ(t *testing.T) {
	got, err := compile(&specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(500))}}, pure(t, V2), nil)
	if err != nil || len(got) != 1 || got[0].instead == nil {
		t.Fatalf("%v %v", got, err)
	}
	if s := got[0].in(t.TempDir()); s.file != "io.weight" || s.value != "default 4950" {
		t.Errorf("%s=%s", s.file, s.value)
	}
}

func TestCompileRefuses(t *testing.T) {
	type res = specs.LinuxResources
	for _, tt := range []struct {
		name  string
		mode  Mode
		res   res
		field string
		kind  func(error) bool
	}{
		//lint:ignore SA1019 it is set to be refused
		{"kernel memory", V1, res{Memory: &specs.LinuxMemory{Kernel: ptr(int64(1))}}, "memory.kernel", errdefs.IsNotImplemented},
		{"no hierarchy", V1, res{Memory: &specs.LinuxMemory{UseHierarchy: ptr(false)}}, "memory.useHierarchy", errdefs.IsNotImplemented},
		{"swap below memory, v1", V1, res{Memory: &specs.LinuxMemory{Limit: ptr(int64(2)), Swap: ptr(int64(1))}}, "memory.swap", errdefs.IsInvalidArgument},
		{"swap below memory, v2", V2, res{Memory: &specs.LinuxMemory{Limit: ptr(int64(2)), Swap: ptr(int64(1))}}, "memory.swap", errdefs.IsInvalidArgument},
		{"swappiness on v2", V2, res{Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(1))}}, "memory.swappiness", errdefs.IsNotImplemented},
		{"no OOM killer on v2", V2, res{Memory: &specs.LinuxMemory{DisableOOMKiller: ptr(true)}}, "memory.disableOOMKiller", errdefs.IsNotImplemented},
		{"real time on v2", V2, res{CPU: &specs.LinuxCPU{RealtimeRuntime: ptr(int64(1))}}, "cpu.realtimeRuntime", errdefs.IsNotImplemented},
		{"idle 2", V1, res{CPU: &specs.LinuxCPU{Idle: ptr(int64(2))}}, "cpu.idle", errdefs.IsInvalidArgument},
		{"a page size with a path", V1, res{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "../2MB"}}}, "hugepageLimits", errdefs.IsInvalidArgument},
		{"weight 5", V1, res{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(5))}}, "blockIO.weight", errdefs.IsInvalidArgument},
		{"leaf weight", V2, res{BlockIO: &specs.LinuxBlockIO{LeafWeight: ptr(uint16(5))}}, "blockIO.leafWeight", errdefs.IsNotImplemented},
		{"unified on v1", V1, res{Unified: map[string]string{"memory.high": "1"}}, "unified[memory.high]", errdefs.IsNotImplemented},
		{"unified path", V2, res{Unified: map[string]string{"memory.x/../../y": "1"}}, "unified", errdefs.IsInvalidArgument},
		{"unified dots", V2, res{Unified: map[string]string{"..": "1"}}, "unified", errdefs.IsInvalidArgument},
		{"unified word", V2, res{Unified: map[string]string{"tasks": "1"}}, "unified[tasks]", errdefs.IsInvalidArgument},
		{"unified procs", V2, res{Unified: map[string]string{"cgroup.procs": "1"}}, "unified[cgroup.procs]", errdefs.IsInvalidArgument},
		{"unified freeze", V2, res{Unified: map[string]string{"cgroup.freeze": "1"}}, "unified[cgroup.freeze]", errdefs.IsInvalidArgument},
		{"network priority name", V1, res{Network: &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "a b"}}}}, "network.priorities", errdefs.IsInvalidArgument},
		{"rdma name", V2, res{Rdma: map[string]specs.LinuxRdma{"a\nb": {}}}, "rdma", errdefs.IsInvalidArgument},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := compile(&tt.res, pure(t, tt.mode), nil)
			if err == nil || !tt.kind(err) || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("%v; want %s", err, tt.field)
			}
		})
	}
}

func TestUnifiedUndo(t *testing.T) {
	const io = "8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2 wbps=max riops=max wiops=max\n"
	for _, tt := range []struct{ file, line, old, want string }{
		{"io.max", "8:16 rbps=9", io, "8:16 rbps=2 wbps=max riops=max wiops=max"},
		{"io.max", "8:32 rbps=9", io, "8:32 rbps=max wbps=max riops=max wiops=max"},
		{"io.weight", "200", "default 100\n8:0 50\n", "default 100"},
		{"io.weight", "8:0 60", "default 100\n8:0 50\n", "8:0 50"},
		{"io.weight", "8:16 60", "default 100\n", "8:16 default"},
		{"misc.max", "sev 3", "", "sev max"},
	} {
		if got := unifiedUndo(tt.file, tt.line)([]byte(tt.old)); got != tt.want {
			t.Errorf("%s %q: %q, want %q", tt.file, tt.line, got, tt.want)
		}
	}
	if unifiedUndo("memory.high", "1") != nil {
		t.Error("a file with one value is its own undo")
	}
}

func TestPath(t *testing.T) {
	m := pure(t, V2)
	for _, tt := range []struct{ parent, id, want string }{
		{"", "abc", "/berth/abc"},
		{"/kubepods/burstable/pod1", "abc", "/kubepods/burstable/pod1/abc"},
		{"kubepods/", "abc", "/kubepods/abc"},
		{"/", "abc", "/abc"},
		{"/a//b", "abc", "/a/b/abc"},
		{"/a.slice/b", "abc", "/a.slice/b/abc"},
	} {
		if got, err := m.Path(tt.parent, "pod", tt.id); err != nil || got != tt.want {
			t.Errorf("%q %q: %q %v", tt.parent, tt.id, got, err)
		}
	}
	for _, tt := range []struct{ parent, id, says string }{
		{"kubepods-burstable-pod1.slice", "abc", "systemd"},
		{"/kubepods.slice/kubepods-pod1.slice", "abc", "systemd"},
		{"system.slice:berth:abc", "abc", "systemd"},
		{"/a/../b", "abc", "not a name"},
		{"..", "abc", "not a name"},
		{"/a\nb", "abc", "not a name"},
		{"", "", "not a name"},
		{"", "a/b", "not a name"},
		{"", "..", "not a name"},
		{"", strings.Repeat("x", 256), "not a name"},
	} {
		if got, err := m.Path(tt.parent, "pod", tt.id); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q %q: %q %v", tt.parent, tt.id, got, err)
		}
	}
}

func TestOpenRefusesDriversItDoesNotHave(t *testing.T) {
	if _, err := Open(Options{Driver: "other"}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	if _, err := Open(Options{Root: t.TempDir()}); !errdefs.IsFailedPrecondition(err) {
		t.Error(err)
	}
}

// The cgroup that a plugin chooses must be the container's alone: what is in it
// is killed with the container.
func TestChosen(t *testing.T) {
	m := pure(t, V2)
	for p, ok := range map[string]bool{
		"/a/id": true, "/id": true, "a/id": false, "": false, "/": false, "/a": false, "/a/id2": false,
		"/a.slice/id": false, "/a\n/id": false,
	} {
		got, err := m.Chosen(p, "/berth/id")
		if (err == nil) != ok || ok && got != p || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %q, %v", p, got, err)
		}
	}
}

func TestParseMounts(t *testing.T) {
	const head = "30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
	for _, tt := range []struct {
		name, table string
		mode        Mode
		want        []hierarchy
	}{
		{
			"v2", "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n36 24 0:30 / /run/cilium/cgroupv2 rw - cgroup2 none rw\n",
			V2, []hierarchy{{mount: "/sys/fs/cgroup", v2: true}},
		},
		{
			"hybrid with systemd", head +
				"31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" +
				"32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
				"33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
				"34 30 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n" +
				"35 30 0:31 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"36 30 0:32 / /mnt/blkio rw - cgroup cgroup rw,blkio\n",
			Hybrid, []hierarchy{
				{mount: "/sys/fs/cgroup/unified", v2: true},
				{mount: "/sys/fs/cgroup/systemd"},
				{mount: "/sys/fs/cgroup/cpu,cpuacct", controllers: []string{"cpu", "cpuacct"}},
				{mount: "/sys/fs/cgroup/memory", controllers: []string{"memory"}},
			},
		},
		{
			"v1", head + "33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n",
			V1, []hierarchy{{mount: "/sys/fs/cgroup/pids", controllers: []string{"pids"}}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseMounts(strings.NewReader(tt.table), "/sys/fs/cgroup")
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
			if mode, err := modeOf(got); err != nil || mode != tt.mode {
				t.Errorf("mode %v %v", mode, err)
			}
		})
	}
	if mode, err := modeOf(nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("nothing mounted: %v %v", mode, err)
	}
}

func TestTracker(t *testing.T) {
	for _, tt := range []struct {
		mode Mode
		dir  string
	}{{V1, "/fake/freezer/berth/a"}, {V2, "/fake/berth/a"}} {
		if got := pure(t, tt.mode).Load("/berth/a").KillDir(); got != tt.dir {
			t.Errorf("%s: %s", tt.mode, got)
		}
	}
	dir, procs := pure(t, V2).Load("/berth/a").Placement()
	if dir != "/fake/berth/a" || procs != nil {
		t.Errorf("v2: %q %q", dir, procs)
	}
	if dir, procs := pure(t, V1).Load("/berth/a").Placement(); dir != "" || len(procs) != 9 {
		t.Errorf("v1: %q %q", dir, procs)
	}
}
