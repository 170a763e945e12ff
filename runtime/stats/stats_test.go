package stats

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fake is a directory with the files of a kernel that need not be this one.
func fake(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// u is a number that may be missing.
func u(n uint64) *uint64 { return &n }

func TestReadV2(t *testing.T) {
	dir := fake(t, map[string]string{
		"cpu.stat":            "usage_usec 123\nuser_usec 100\nsystem_usec 23\nnice_usec 0\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
		"memory.current":      "10485760\n",
		"memory.stat":         "anon 4096\nfile 8192\nfile_mapped 12\nkernel 99\nslab 5\ninactive_file 1048576\npgfault 55\npgmajfault 3\n",
		"memory.max":          "max\n",
		"memory.swap.current": "77\n",
		"memory.peak":         "20971520\n",
		"memory.events":       "low 0\nhigh 0\nmax 6\noom 2\noom_kill 1\n",
		"pids.current":        "4\n",
		"pids.max":            "max\n",
		"io.stat":             "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 rbytes=10 wbytes=20 rios=30 wios=40\n253:0 \n",
		"cpu.pressure":        "some avg10=1.50 avg60=0.25 avg300=0.05 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
	})
	got := sample(t, func(string) (string, bool) { return dir, true })
	want := Sample{
		CPU: &CPU{Usage: 123000},
		Memory: &Memory{
			Usage: 10 << 20, WorkingSet: 9 << 20, RSS: 4096, Cache: 8192, MappedFile: 12, Swap: u(77), Kernel: u(99),
			PageFaults: 55, MajorPageFaults: 3,
		},
		Tasks: u(4),
		CPUPressure: &Pressure{
			Some: Stall{Avg10: 1.5, Avg60: 0.25, Avg300: 0.05, Total: 9000},
			Full: Stall{Total: 2000},
		},
		Detail: &Details{
			User: u(100000), System: u(23000), Periods: u(5), ThrottledPeriods: u(2), ThrottledTime: u(7000),
			MaxUsage: u(20 << 20), FailCount: u(6), OOMKills: u(1), MaxTasks: u(0),
			Devices: []Device{
				{Major: 8, ReadBytes: 1, WriteBytes: 2, DiscardBytes: 5, Reads: 3, Writes: 4},
				{Major: 8, Minor: 16, ReadBytes: 10, WriteBytes: 20, Reads: 30, Writes: 40},
			},
		},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Sample{}, "At")); d != "" {
		t.Error(d)
	}
}

func TestReadV1(t *testing.T) {
	dir := fake(t, map[string]string{
		"cpuacct.usage": "123\n", "cpuacct.usage_user": "100\n", "cpuacct.usage_sys": "23\n",
		"cpu.stat":                                  "nr_periods 5\nnr_throttled 2\nthrottled_time 7\n",
		"memory.usage_in_bytes":                     "4096\n",
		"memory.max_usage_in_bytes":                 "8192\n",
		"memory.failcnt":                            "6\n",
		"memory.kmem.usage_in_bytes":                "99\n",
		"memory.oom_control":                        "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
		"memory.limit_in_bytes":                     "9223372036854771712\n",
		"memory.stat":                               "rss 1\ninactive_file 1\ntotal_cache 3\ntotal_rss 2048\ntotal_swap 904\ntotal_mapped_file 12\ntotal_inactive_file 8192\ntotal_pgfault 55\ntotal_pgmajfault 3\n",
		"pids.current":                              "4\n",
		"pids.max":                                  "9\n",
		"blkio.throttle.io_service_bytes_recursive": "8:0 Read 1\n8:0 Write 2\n8:0 Sync 3\n8:0 Discard 5\n8:0 Total 3\n8:16 Read 10\n8:16 Write 20\nTotal 33\n",
		"blkio.throttle.io_serviced_recursive":      "8:0 Read 3\nTotal 3\n",
	})
	got := sample(t, func(c string) (string, bool) {
		if c == "" {
			return "", false
		}
		return dir, false
	})
	want := Sample{
		CPU:    &CPU{Usage: 123},
		Memory: &Memory{Usage: 4096, RSS: 2048, Cache: 3, MappedFile: 12, Swap: u(904), Kernel: u(99), PageFaults: 55, MajorPageFaults: 3},
		Tasks:  u(4),
		Detail: &Details{
			User: u(100), System: u(23), Periods: u(5), ThrottledPeriods: u(2), ThrottledTime: u(7),
			MaxUsage: u(8192), FailCount: u(6), OOMKills: u(1), MaxTasks: u(9),
			Devices: []Device{
				{Major: 8, ReadBytes: 1, WriteBytes: 2, DiscardBytes: 5, Reads: 3},
				{Major: 8, Minor: 16, ReadBytes: 10, WriteBytes: 20},
			},
		},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Sample{}, "At")); d != "" {
		t.Error(d)
	}
}

// Before 5.18 the kernel does not add its own memory up.
func TestKernelMemoryInParts(t *testing.T) {
	dir := fake(t, map[string]string{
		"memory.current": "1\n",
		"memory.stat":    "anon 0\nkernel_stack 1\npagetables 2\npercpu 4\nsock 8\nslab_reclaimable 5\nslab 16\n",
	})
	if s := sample(t, func(string) (string, bool) { return dir, true }); s.Memory.Kernel == nil || *s.Memory.Kernel != 31 {
		t.Errorf("%+v", s.Memory)
	}
}

func sample(t testing.TB, find Finder) Sample {
	t.Helper()
	r := NewReader(find)
	defer r.Close()
	s, err := r.Read(All)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatTheHostCannotSayIsNil(t *testing.T) {
	dir := fake(t, map[string]string{"pids.current": "4\n"})
	s := sample(t, func(c string) (string, bool) { return dir, true })
	if d := cmp.Diff(Sample{Tasks: u(4), Detail: &Details{}}, s, cmpopts.IgnoreFields(Sample{}, "At")); d != "" {
		t.Error(d)
	}
	for name, find := range map[string]Finder{
		"no files":      func(string) (string, bool) { return t.TempDir(), true },
		"no hierarchy":  func(string) (string, bool) { return "", false },
		"no such group": func(string) (string, bool) { return "/nonexistent", true },
	} {
		if s, err := NewReader(find).Read(All); !errdefs.IsNotFound(err) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestLongFilesAreReadWhole(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "%d:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n", i)
	}
	dir := fake(t, map[string]string{"io.stat": b.String(), "pids.current": "1\n"})
	if s := sample(t, func(string) (string, bool) { return dir, true }); len(s.Detail.Devices) != 1000 {
		t.Errorf("%d devices", len(s.Detail.Devices))
	}
}

func TestNanoCores(t *testing.T) {
	at := time.Now()
	s := func(after time.Duration, usage uint64) Sample {
		return Sample{At: at.Add(after), CPU: &CPU{Usage: usage}}
	}
	if n, ok := NanoCores(s(0, 100), s(2*time.Second, 1_000_000_100)); n != 500_000_000 || !ok {
		t.Error(n, ok)
	}
	for name, pair := range map[string][2]Sample{
		"same time":    {s(1, 1), s(1, 2)},
		"older second": {s(2, 1), s(1, 2)},
		"new cgroup":   {s(1, 5), s(2, 1)},
		"no CPU":       {{At: at}, s(1, 1)},
	} {
		if n, ok := NanoCores(pair[0], pair[1]); ok {
			t.Errorf("%s: %d", name, n)
		}
	}
}

// real makes a cgroup in every hierarchy of this host.
func real(t testing.TB) Finder {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("cgroups need root")
	}
	name := fmt.Sprintf("berth-test-%x-stats", rand.Uint64())
	dirs := map[string]string{}
	v2 := false
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		v2 = true
		dirs[""] = "/sys/fs/cgroup/" + name
	} else {
		for _, c := range []string{"cpuacct", "cpu", "memory", "pids", "blkio"} {
			dirs[c] = "/sys/fs/cgroup/" + c + "/" + name
		}
	}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skipf("no such hierarchy: %v", err)
		}
		t.Cleanup(func() {
			for range 100 {
				if err := os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("left behind: %s", dir)
		})
	}
	if v2 {
		return func(string) (string, bool) { return dirs[""], true }
	}
	return func(c string) (string, bool) { return dirs[c], false }
}

func TestReadARealCgroup(t *testing.T) {
	find := real(t)
	r := NewReader(find)
	defer r.Close()
	before, err := r.Read(Tasks)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "read x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	joined := map[string]bool{}
	for _, c := range []string{"cpuacct", "cpu", "memory", "pids", "blkio"} {
		dir, _ := find(c)
		if joined[dir] {
			continue
		}
		joined[dir] = true
		if err := linux.WriteKernel(dir+"/cgroup.procs", strconv.Itoa(cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
	in.Write([]byte("go\n"))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		s, err := r.Read(Tasks)
		if err != nil {
			t.Fatal(err)
		}
		if s.CPU != nil && s.CPU.Usage > before.CPU.Usage && (s.Tasks == nil || *s.Tasks == 1) {
			if s.Memory != nil && (s.Memory.WorkingSet > s.Memory.Usage) {
				t.Errorf("%+v", s.Memory)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing moves: %+v", s)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	for dir := range joined {
		for range 1000 {
			if os.Remove(dir) == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	if _, err := r.Read(0); !errdefs.IsNotFound(err) {
		t.Errorf("of a removed cgroup: %v", err)
	}
	r.Close()
	if _, err := r.Read(0); !errdefs.IsNotFound(err) {
		t.Errorf("of a closed reader: %v", err)
	}
}

func FuzzParsers(f *testing.F) {
	f.Add([]byte("anon 1\nfile 2\n"))
	f.Add([]byte("8:0 rbytes=1 wbytes=2\n"))
	f.Add([]byte("8:0 Read 1\nTotal 1\n"))
	f.Add([]byte("Inter-| Receive\n face |bytes\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"))
	f.Add([]byte("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		flat(b, func([]byte, uint64) {})
		ioStat(b)
		blkio(b, map[[2]uint64]*Device{}, func(*Device, string, uint64) {})
		interfaces(b)
		if pressure(b) == nil {
			t.Error("no pressure")
		}
	})
}

func BenchmarkRead(b *testing.B) {
	for name, parts := range map[string]Parts{"container": 0, "pod": Tasks | Limit, "all": All} {
		b.Run(name, func(b *testing.B) {
			r := NewReader(real(b))
			defer r.Close()
			for b.Loop() {
				if _, err := r.Read(parts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
