package namespace

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make namespaces")
	}
}

// tmpfs mounts a tmpfs of its own, as the state directory is, with the given
// propagation.
func tmpfs(t testing.TB, propagation uintptr) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("berth-test", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("pins are left on %s: %v", dir, err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	if err := unix.Mount("", dir, "", propagation, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

// inside runs fn in the pinned network and UTS namespaces.
func inside(t testing.TB, pins map[Kind]string, fn func() error) {
	t.Helper()
	err := OnThread(func() error {
		for k, path := range pins {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Setns(fd, k.CloneFlag()); err != nil {
				return fmt.Errorf("setns %s: %w", k, err)
			}
		}
		return fn()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPin(t *testing.T) {
	needRoot(t)
	for name, propagation := range map[string]uintptr{"private state directory": unix.MS_PRIVATE, "shared state directory": unix.MS_SHARED} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(tmpfs(t, propagation), "pod", "ns")
			pins, err := Pin(dir, []Kind{Net, IPC, UTS}, func() error {
				return errors.Join(
					SetHostname("inside"),
					LoopbackUp(),
					SetSysctl("net.ipv4.ip_unprivileged_port_start", "79"),
					SetSysctl("kernel/shm_rmid_forced", "1"),
				)
			})
			if err != nil {
				t.Fatal(err)
			}
			for k, path := range pins {
				if path != filepath.Join(dir, string(k)) {
					t.Errorf("pin of %s is %s", k, path)
				}
				if same, err := Same(path, "/proc/self/ns/"+string(k)); err != nil || same {
					t.Errorf("%s is the host's namespace (%v)", k, err)
				}
			}
			inside(t, pins, func() error {
				host, _ := os.Hostname()
				if host != "inside" {
					t.Errorf("hostname %q", host)
				}
				for file, want := range map[string]string{
					"net/ipv4/ip_unprivileged_port_start": "79",
					"kernel/shm_rmid_forced":              "1",
				} {
					got, err := os.ReadFile("/proc/sys/" + file)
					if err != nil || strings.TrimSpace(string(got)) != want {
						t.Errorf("%s = %q (%v), want %s", file, got, err, want)
					}
				}
				l, err := net.Listen("tcp", "[::1]:0")
				if err != nil {
					t.Errorf("lo is not up: %v", err)
					return nil
				}
				return l.Close()
			})
			if _, err := Pin(dir, []Kind{Net}, nil); !errdefs.IsAlreadyExists(err) {
				t.Errorf("second pin: %v, want already exists", err)
			}
			if got, err := Pinned(dir); err != nil || len(got) != 3 {
				t.Errorf("pinned: %v, %v; want all three after the refused second pin", got, err)
			}
			for i := range 2 {
				if err := Unpin(dir); err != nil {
					t.Fatalf("unpin, call %d: %v", i+1, err)
				}
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("the directory is left: %v", err)
			}
		})
	}
}

func TestPinLeavesNothingAfterFailedSetup(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(tmpfs(t, unix.MS_PRIVATE), "ns")
	boom := errors.New("boom")
	for name, setup := range map[string]func() error{
		"error":  func() error { return boom },
		"panic":  func() error { panic(boom) },
		"goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Pin(dir, []Kind{Net, UTS}, setup); err == nil {
				t.Fatal("no error")
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s is left: %v", dir, err)
			}
		})
	}
	// A file where the second pin would go: the first is taken back.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(Path(dir, UTS), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Pin(dir, []Kind{Net, UTS}, nil); !errdefs.IsAlreadyExists(err) {
		t.Errorf("got %v, want already exists", err)
	}
	if _, err := os.Stat(Path(dir, Net)); !os.IsNotExist(err) {
		t.Errorf("first pin is left: %v", err)
	}
	if pins, err := Pinned(dir); err != nil || len(pins) != 0 {
		t.Errorf("a bare file counts as a pin: %v, %v", pins, err)
	}
	if err := Unpin(dir); err != nil {
		t.Errorf("unpin of a bare file: %v", err)
	}
}

func TestPinKeepsTheProcessAtHome(t *testing.T) {
	needRoot(t)
	root := tmpfs(t, unix.MS_PRIVATE)
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			dir := filepath.Join(root, fmt.Sprint(i))
			if _, err := Pin(dir, []Kind{Net, IPC, UTS}, LoopbackUp); err != nil {
				t.Error(err)
			}
			if err := Unpin(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		got, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net")
		if err == nil && got != home { // a thread that just ended has none
			t.Errorf("thread %s is in %s, home is %s", task.Name(), got, home)
		}
	}
}

func TestPinProcess(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(tmpfs(t, unix.MS_PRIVATE), "ns")
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	path, err := PinProcess(dir, cmd.Process.Pid, PID)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := Same(path, fmt.Sprintf("/proc/%d/ns/pid", cmd.Process.Pid)); err != nil || !same {
		t.Errorf("not the process's namespace: %v", err)
	}
	if err := Unpin(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := PinProcess(dir, 1<<22+1, PID); err == nil {
		t.Error("pin of a process that does not exist succeeded")
	}
	if err := Unpin(dir); err != nil {
		t.Fatal(err)
	}
}

func TestCheckSysctl(t *testing.T) {
	all := []Kind{Net, IPC, UTS}
	for _, tt := range []struct {
		name  string
		kinds []Kind
		ok    bool
	}{
		{"net.ipv4.ip_forward", all, true},
		{"net/ipv4/ip_forward", all, true},
		{"net.ipv4.ip_forward", []Kind{IPC, UTS}, false},
		{"kernel.shm_rmid_forced", all, true},
		{"kernel.shm_rmid_forced", []Kind{Net}, false},
		{"kernel.sem", all, true},
		{"kernel.sem_x", all, false},
		{"fs.mqueue.queues_max", all, true},
		{"fs.file-max", all, false},
		{"kernel.hostname", all, false},
		{"kernel.domainname", all, true},
		{"kernel.pid_max", all, false},
		{"net/../kernel/core_pattern", all, false},
		{"net..kernel.core_pattern", all, false},
		{"/net/ipv4/ip_forward", all, false},
		{"../net/x", all, false},
		{"", all, false},
	} {
		if err := CheckSysctl(tt.name, tt.kinds); (err == nil) != tt.ok {
			t.Errorf("%q with %v: %v, want ok %v", tt.name, tt.kinds, err, tt.ok)
		}
	}
}

func TestSysctlFile(t *testing.T) {
	for name, want := range map[string]string{
		"net.ipv4.conf.eth0/1.mtu":  "net/ipv4/conf/eth0.1/mtu",
		"net/ipv4/conf/eth0.1/mtu":  "net/ipv4/conf/eth0.1/mtu",
		"kernel.shm_rmid_forced":    "kernel/shm_rmid_forced",
		"net.ipv4.../.etc.passwd":   "",
		"net.ipv4.//.//.etc.passwd": "",
	} {
		if got, err := sysctlFile(name); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
}

func BenchmarkPin(b *testing.B) {
	needRoot(b)
	dir := filepath.Join(tmpfs(b, unix.MS_PRIVATE), "ns")
	for b.Loop() {
		if _, err := Pin(dir, []Kind{Net, IPC, UTS}, func() error {
			return errors.Join(SetHostname("bench"), LoopbackUp())
		}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := Unpin(dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
