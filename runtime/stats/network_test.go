package stats

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-cri/berth/linux/namespace"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestInterfaces(t *testing.T) {
	got := interfaces([]byte(`Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       9       9    9    9    0     0          0         0        9       9    9    9    0     0       0          0
  eth0: 1234567       2    3    4    0     0          0         0        5       6    7    8    0     0       0          0
  a:b:12345678901       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  bad: 1 2
`))
	want := []Interface{
		{Name: "eth0", Rx: Traffic{1234567, 2, 3, 4}, Tx: Traffic{5, 6, 7, 8}},
		{Name: "a:b", Rx: Traffic{Bytes: 12345678901}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// pinned is a namespace with one interface next to lo.
func pinned(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	dir := filepath.Join(t.TempDir(), "ns")
	pins, err := namespace.Pin(dir, []namespace.Kind{namespace.Net}, func() error {
		// A tunnel device: it needs no module that a kernel may lack.
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		req, err := unix.NewIfreq("pod0")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return err
		}
		return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	})
	if err != nil {
		t.Skipf("no interface to look at: %v", err)
	}
	t.Cleanup(func() {
		if err := namespace.Unpin(dir); err != nil {
			t.Error(err)
		}
	})
	return pins[namespace.Net]
}

func TestNetworks(t *testing.T) {
	one, two := pinned(t), pinned(t)
	before, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		all, err := Networks([]string{one, "/nonexistent", two})
		if err == nil || len(all) != 3 || all[1] != nil {
			t.Fatalf("%v, %v", all, err)
		}
		for _, i := range []int{0, 2} {
			n := all[i]
			if n == nil || len(n.Interfaces) != 1 || n.Interfaces[0].Name != "pod0" || time.Since(n.At) > time.Minute {
				t.Errorf("%d: %+v", i, n)
			}
		}
	}
	after, err := net.Interfaces() // this process has not moved
	if err != nil || len(before) != len(after) {
		t.Errorf("%v, before %v: %v", after, before, err)
	}
}

func TestProcesses(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	before := ReadProcesses([]int{os.Getpid(), 1 << 30})
	l.Close()
	after := ReadProcesses([]int{os.Getpid()})
	if before.Count != 1 || after.Count != 1 || before.Sockets != after.Sockets+1 || before.Files < 4 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if n, ok := OpenFilesLimit(os.Getpid()); !ok || n != limit.Cur {
		t.Errorf("%d, %v; want %d", n, ok, limit.Cur)
	}
	if _, ok := OpenFilesLimit(1 << 30); ok {
		t.Error("limit of no process")
	}
}

func BenchmarkNetworks(b *testing.B) {
	path := pinned(b)
	paths := make([]string, 100)
	for i := range paths {
		paths[i] = path
	}
	for b.Loop() {
		if _, err := Networks(paths); err != nil {
			b.Fatal(err)
		}
	}
}
