package embedded

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/namespace"
)

// testCgroup makes a cgroup in every hierarchy of the host and says what a
// placement in it is, and which line of /proc/PID/cgroup it makes.
func testCgroup(t testing.TB) (Placement, string) {
	t.Helper()
	name := fmt.Sprintf("/berth-test-embedded-%x", rand.Uint64())
	host, err := hostCgroups()
	if err != nil {
		t.Fatal(err)
	}
	var p Placement
	dirs := []string{filepath.Join(cgroupRoot, name)}
	if host.unified {
		p.V2Dir = dirs[0]
	} else {
		dirs = nil
		for _, h := range host.hierarchies {
			if h.Key == "" {
				p.V2Dir = filepath.Join(h.Mount, name)
				dirs = append(dirs, p.V2Dir)
				continue
			}
			dir := filepath.Join(h.Mount, name)
			p.Procs = append(p.Procs, filepath.Join(dir, "cgroup.procs"))
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			t.Skip(err)
		}
		if filepath.Base(filepath.Dir(dir)) == "cpuset" { // or no process may enter
			for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
				b, err := os.ReadFile(filepath.Join(filepath.Dir(dir), f))
				if err != nil {
					t.Fatal(err)
				}
				linux.WriteKernel(filepath.Join(dir, f), string(b))
			}
		}
		t.Cleanup(func() { eventually(t, func() error { return unix.Rmdir(dir) }) })
	}
	return p, name
}

func TestPlacementInCgroups(t *testing.T) {
	placement, name := testCgroup(t)
	spec := specOf("sleep", "1000")
	in := func(s *Start) { s.Cgroup = placement }
	p := background(t, spec, overlayOf(t), in)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(strings.TrimSpace(line), ":"+name) {
			t.Errorf("it is in %s", line)
		}
	}
	t.Run("the namespace begins there", func(t *testing.T) {
		r, err := execIn(t, spec, p, nil, "cut -d: -f3 /proc/1/cgroup | sort -u; ls -d /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/cgroup.procs 2>/dev/null | wc -l")
		if err != nil || r.stdout != "/\n1\n" {
			t.Fatalf("%q %q %v", r.stdout, r.stderr, err)
		}
	})
	t.Run("the view is of it", func(t *testing.T) {
		r, err := execIn(t, spec, p, nil, "cat /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/cgroup.procs 2>/dev/null | head -1")
		if err != nil || r.stdout != "1\n" {
			t.Fatalf("%q %q %v", r.stdout, r.stderr, err)
		}
	})
	t.Run("an exec is placed too", func(t *testing.T) {
		prepared, err := CompileExec(spec, &specs.Process{Args: []string{"cat", "/proc/self/cgroup"}, Cwd: "/"})
		r := run(t, prepared, err, in, func(s *Start) { s.TargetPidfd = p.Pidfd })
		if strings.Contains(r.stdout, "..") || !strings.HasPrefix(r.stdout, "9:") && !strings.Contains(r.stdout, "::/\n") {
			t.Fatalf("%q", r.stdout)
		}
	})
	t.Run("without a namespace the names are the host's", func(t *testing.T) {
		spec := script("cat /proc/self/cgroup; cat /sys/fs/cgroup/memory/cgroup.procs 2>/dev/null || echo 1")
		spec.Linux.Namespaces = spec.Linux.Namespaces[:5]
		prepared, err := Compile(spec, overlayOf(t))
		r := run(t, prepared, err, in)
		if !strings.Contains(r.stdout, ":"+name+"\n") || strings.Contains(r.stdout, ":/\n") || !strings.Contains(r.stdout, "\n1\n") {
			t.Fatalf("%q", r.stdout)
		}
	})
	t.Run("a cgroup that is gone", func(t *testing.T) {
		for _, bad := range []Placement{{V2Dir: "/sys/fs/cgroup/no/such"}, {Procs: []string{"/sys/fs/cgroup/no/such/cgroup.procs"}}} {
			prepared, err := Compile(spec, overlayOf(t))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = try(t, prepared, nil, func(s *Start) { s.Cgroup = bad }); err == nil || !strings.HasPrefix(err.Error(), "cgroup") {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	})
}

func TestOOMScore(t *testing.T) {
	for _, wanted := range []int{500, -500} {
		spec := specOf("cat", "/proc/self/oom_score_adj")
		spec.Process.OOMScoreAdj = &wanted
		p, err := Compile(spec, overlayOf(t))
		if err != nil {
			t.Fatal(err)
		}
		f := planFile(t, p)
		r, w := pipe(t)
		proc, err := launcher.Start(t.Context(), Start{Prepared: p, Plan: f, Stdout: w})
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 20)
		n, _ := r.Read(b)
		wait(t, proc)
		proc.Pidfd.Close()
		want := wanted
		if proc.OOMScoreAdj != nil {
			if wanted > 0 {
				t.Errorf("%d was clamped to %d", wanted, *proc.OOMScoreAdj)
			}
			want = *proc.OOMScoreAdj
		}
		if got := strings.TrimSpace(string(b[:n])); got != fmt.Sprint(want) {
			t.Errorf("it has %s, want %d", got, want)
		}
	}
}

// pinned makes the namespaces of a pod.
func pinned(t testing.TB) (paths map[namespace.Kind]string, join []specs.LinuxNamespace) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ns")
	paths, err := namespace.Pin(dir, []namespace.Kind{namespace.Net, namespace.IPC, namespace.UTS}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := namespace.Unpin(dir); err != nil {
			t.Error(err)
		}
	})
	return paths, []specs.LinuxNamespace{
		{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.CgroupNamespace},
		{Type: specs.NetworkNamespace, Path: paths[namespace.Net]},
		{Type: specs.IPCNamespace, Path: paths[namespace.IPC]}, {Type: specs.UTSNamespace, Path: paths[namespace.UTS]},
	}
}

func TestContainerIsInThePodsNamespaces(t *testing.T) {
	paths, join := pinned(t)
	spec := specOf("sleep", "1000")
	spec.Linux.Namespaces = join
	p := background(t, spec, overlayOf(t))
	for kind, path := range paths {
		if same, err := namespace.Same(fmt.Sprintf("/proc/%d/ns/%s", p.Pid, kind), path); err != nil || !same {
			t.Errorf("%s: %v %v", kind, same, err)
		}
	}
	for _, kind := range []string{"mnt", "pid", "cgroup"} {
		if same, err := namespace.Same(fmt.Sprintf("/proc/%d/ns/%s", p.Pid, kind), "/proc/self/ns/"+kind); err != nil || same {
			t.Errorf("its own %s: %v %v", kind, same, err)
		}
	}
}

func TestContainerInTheHostsNamespaces(t *testing.T) {
	spec := specOf("sleep", "1000")
	spec.Linux.Namespaces = spec.Linux.Namespaces[:1]
	spec.Hostname = ""
	p := background(t, spec, overlayOf(t))
	for _, kind := range []string{"pid", "net", "ipc", "uts", "cgroup", "user"} {
		if same, err := namespace.Same(fmt.Sprintf("/proc/%d/ns/%s", p.Pid, kind), "/proc/self/ns/"+kind); err != nil || !same {
			t.Errorf("%s: %v %v", kind, same, err)
		}
	}
	r, err := execIn(t, spec, p, nil, fmt.Sprintf("test -d /proc/%d && echo seen", os.Getpid()))
	if err != nil || r.stdout != "seen\n" {
		t.Errorf("%q %v", r.stdout, err)
	}
}

// After many starts, at the same time and failing ones among them, every thread
// is in the host's namespaces and no descriptor is left.
func TestThreadsComeHome(t *testing.T) {
	_, join := pinned(t)
	spec := specOf("true")
	spec.Linux.Namespaces = join
	target := background(t, specOf("sleep", "1000"), overlayOf(t))
	bad := specOf("true")
	bad.Linux.Namespaces[2].Path = "/no/such/pin"
	o := overlayOf(t)
	runtime.GC()
	before := openFiles(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for n := range 50 {
				switch n % 4 {
				case 0:
					execIn(t, spec, target, nil, "true")
				case 1:
					p, err := Compile(bad, freshUpper(t, o))
					try(t, p, err)
				default:
					p, err := Compile(spec, freshUpper(t, o))
					if r, err := try(t, p, err); err != nil || r.status != 0 {
						t.Errorf("%v %#x", err, r.status)
					}
				}
			}
		})
	}
	all.Wait()
	runtime.GC()
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil || len(threads) == 0 {
		t.Fatal(err)
	}
	for _, thread := range threads {
		for kind, home := range homeNamespaces {
			link, err := os.Readlink(thread + "/ns/" + kind)
			if err != nil && !os.IsNotExist(err) { // it may have ended
				t.Error(err)
			} else if err == nil && link != home {
				t.Errorf("%s is abroad: %s, not %s", thread, link, home)
			}
		}
	}
	// The pipes of a subtest are closed by its cleanup.
	if after := openFiles(t); after > before+4*200*2 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err == nil && pid > 0 {
		t.Errorf("process %d was not waited for", pid)
	}
}

// A launcher must not leak what it passes, whatever the result.
func TestLauncherLeaksNoDescriptors(t *testing.T) {
	o := overlayOf(t)
	good, err := Compile(specOf("true"), o)
	if err != nil {
		t.Fatal(err)
	}
	missing, err := Compile(specOf("frob"), o)
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	leak, err := unix.Dup(int(null.Fd())) // one that is not close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	var before int
	for n := range 20 {
		if n == 3 { // after what is made once
			before = openFiles(t)
		}
		for _, p := range []Prepared{good, missing} {
			p.Plan = withUpper(t, p, freshUpper(t, o))
			f := planFile(t, p)
			proc, err := launcher.Start(t.Context(), Start{Prepared: p, Plan: f, Stdin: null, Stdout: null, Stderr: null})
			f.Close()
			if err == nil {
				wait(t, proc)
				proc.Pidfd.Close()
			}
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// What the monitor ignores, or was started ignoring, a program does not.
func TestIgnoredSignalsAreNotInherited(t *testing.T) {
	signal.Ignore(unix.SIGUSR2, unix.SIGHUP)
	defer signal.Reset(unix.SIGUSR2, unix.SIGHUP)
	p, err := Compile(specOf("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"), overlayOf(t))
	if r := run(t, p, err); !fullMatch("SigBlk:\t0+\nSigIgn:\t0+\n", r.stdout) {
		t.Errorf("%q", r.stdout)
	}
}
