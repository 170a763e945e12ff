package embedded

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

var (
	launcher *Launcher
	imageDir string // one layer: a static busybox

	homeNamespaces = map[string]string{} // of this process, before the first start
)

func TestMain(m *testing.M) {
	if os.Args[0] == "berth-init" { // one that never answers
		time.Sleep(time.Hour)
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if os.Getuid() != 0 {
		println("these tests make containers: they need root")
		return 0
	}
	for _, kind := range []string{"mnt", "net", "ipc", "uts", "cgroup", "pid", "pid_for_children"} {
		link, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			panic(err)
		}
		homeNamespaces[kind] = link
	}
	dir, err := os.MkdirTemp("", "berth-embedded-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	program := os.Getenv("BERTH_INIT") // for a machine without a compiler
	if program == "" {
		program = filepath.Join(dir, "berth-init")
		build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "github.com/berth-cri/berth/cmd/berth-init")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			panic(string(out))
		}
		defer os.Remove(program)
	}
	if launcher, err = NewLauncher(program); err != nil {
		panic(err)
	}
	if imageDir, err = makeImage(filepath.Join(dir, "image")); err != nil {
		println("no image:", err.Error())
	}
	return m.Run()
}

// makeImage makes a layer of busybox and its commands.
func makeImage(dir string) (string, error) {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return "", err
	}
	for _, d := range []string{"bin", "etc", "tmp", "proc", "sys", "dev", "root", "home/user", "var"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return "", err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), busybox, 0o755); err != nil {
		return "", err
	}
	out, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return "", err
	}
	for name := range strings.FieldsSeq(string(out)) {
		if name != "busybox" {
			if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
				return "", err
			}
		}
	}
	return dir, os.Chmod(filepath.Join(dir, "tmp"), 0o1777)
}

// overlayOf makes an overlay over the layers, topmost first; without any, over
// the image.
func overlayOf(t testing.TB, layers ...string) Overlay {
	t.Helper()
	if imageDir == "" {
		t.Skip("no /bin/busybox (Debian: busybox-static)")
	}
	dir := t.TempDir()
	o := Overlay{Lower: append(layers, imageDir), Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Volatile: true}
	for _, d := range []string{o.Upper, o.Work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// specOf is an ordinary container's, with all its namespaces new.
func specOf(args ...string) *specs.Spec {
	return &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{"PATH=/usr/bin:/bin"}, NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{
				Bounding: defaultCapabilities, Effective: defaultCapabilities, Permitted: defaultCapabilities,
			},
		},
		Hostname: "box",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.CgroupNamespace},
			},
			MaskedPaths: []string{
				"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
				"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

func script(text string) *specs.Spec { return specOf("/bin/sh", "-c", text) }

// result is what a process left.
type result struct {
	stdout, stderr string
	status         unix.WaitStatus
}

// run starts a prepared process and waits for its end.
func run(t testing.TB, p Prepared, err error, set ...func(*Start)) result {
	t.Helper()
	r, err := try(t, p, err, set...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func try(t testing.TB, p Prepared, err error, set ...func(*Start)) (result, error) {
	t.Helper()
	if err != nil {
		return result{}, err
	}
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	s := Start{Prepared: p, Plan: planFile(t, p), Stdout: outW, Stderr: errW}
	for _, f := range set {
		f(&s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	proc, err := launcher.Start(ctx, s)
	s.Plan.Close()
	outW.Close()
	errW.Close()
	if err != nil {
		return result{}, err
	}
	defer proc.Pidfd.Close()
	var r result
	var stderr bytes.Buffer
	done := make(chan struct{})
	go func() { defer close(done); io.Copy(&stderr, errR) }()
	out, _ := io.ReadAll(outR)
	<-done
	r.stdout, r.stderr = string(out), stderr.String()
	r.status = wait(t, proc)
	return r, nil
}

func wait(t testing.TB, p *Process) (ws unix.WaitStatus) {
	t.Helper()
	if dead, err := linux.PidfdDead(p.Pidfd, 20*time.Second); err != nil || !dead {
		t.Errorf("the process does not end: %v", err)
		linux.PidfdSignal(p.Pidfd, unix.SIGKILL)
	}
	if _, err := unix.Wait4(p.Pid, &ws, 0, nil); err != nil {
		t.Fatalf("wait: %v", err)
	}
	return ws
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func planFile(t testing.TB, p Prepared) *os.File {
	t.Helper()
	f, err := linux.Memfd("plan", p.Plan)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// background starts a container that runs until the test ends.
func background(t testing.TB, spec *specs.Spec, o Overlay, set ...func(*Start)) *Process {
	t.Helper()
	p, err := Compile(spec, o)
	if err != nil {
		t.Fatal(err)
	}
	s := Start{Prepared: p, Plan: planFile(t, p)}
	for _, f := range set {
		f(&s)
	}
	proc, err := launcher.Start(t.Context(), s)
	s.Plan.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		linux.PidfdSignal(proc.Pidfd, unix.SIGKILL)
		wait(t, proc)
		proc.Pidfd.Close()
		if proc.Console != nil {
			proc.Console.Close()
		}
	})
	return proc
}

// eventually waits for what happens in another process.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	var err error
	for range 500 {
		if err = f(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal(err)
}

func replaceOutside(content, outside string) string {
	return strings.ReplaceAll(content, "OUTSIDE", outside)
}

func fullMatch(expression, text string) bool {
	return regexp.MustCompile("^(?:" + expression + ")$").MatchString(text)
}

// exchange swaps two names in one step.
func exchange(a, b string) {
	unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// freshUpper is the same overlay with another upper: a volatile one cannot be
// mounted twice.
func freshUpper(t testing.TB, o Overlay) Overlay {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(o.Upper), "upper")
	if err != nil {
		t.Fatal(err)
	}
	o.Upper, o.Work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{o.Upper, o.Work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// withUpper is the plan of a container with another upper.
func withUpper(t testing.TB, p Prepared, o Overlay) []byte {
	t.Helper()
	steps, err := plan.Decode(p.Plan)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if out, ok := s.(*plan.Outside); ok {
			s = out.Step
		}
		if root, ok := s.(*plan.RootOverlay); ok {
			root.Upper, root.Work = o.Upper, o.Work
		}
	}
	b, err := plan.Encode(steps)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
