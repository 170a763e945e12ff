package namespace

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var mapped = Mapping{UIDs: Range{Host: 100000, Length: 65536}, GIDs: Range{Host: 200000, Length: 1000}}

func TestPinUser(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(tmpfs(t, unix.MS_PRIVATE), "ns")
	pins, err := PinUser(dir, mapped, []Kind{Net, IPC, UTS}, func() error {
		return errors.Join(
			SetHostname("inside"),
			LoopbackUp(),
			mapped.SetSysctl("net.ipv4.ping_group_range", "0 2147483647"),
			mapped.SetSysctl("kernel/shm_rmid_forced", "1"),
			mapped.SetSysctl("fs.mqueue.queues_max", "77"),
			mapped.SetSysctl("kernel.domainname", "example.org"),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(pins) != 4 {
		t.Errorf("pins: %v", pins)
	}
	for k, path := range pins {
		if same, err := Same(path, "/proc/self/ns/"+string(k)); err != nil || same {
			t.Errorf("%s is the host's namespace (%v)", k, err)
		}
		if k == User {
			continue
		}
		if !ownedBy(t, path, pins[User]) {
			t.Errorf("the %s namespace does not belong to the user namespace", k)
		}
	}
	delete(pins, User) // no thread can join it
	inside(t, pins, func() error {
		if host, _ := os.Hostname(); host != "inside" {
			t.Errorf("hostname %q", host)
		}
		for file, want := range map[string]string{
			"net/ipv4/ping_group_range": "0\t2147483647",
			"kernel/shm_rmid_forced":    "1",
			"fs/mqueue/queues_max":      "77",
			"kernel/domainname":         "example.org",
		} {
			got, err := os.ReadFile("/proc/sys/" + file)
			if err != nil || strings.TrimSpace(string(got)) != want {
				t.Errorf("%s = %q (%v), want %s", file, got, err, want)
			}
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Errorf("lo is not up: %v", err)
			return nil
		}
		return l.Close()
	})
	if err := Unpin(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
}

// ownedBy asks the kernel which user namespace another namespace belongs to.
func ownedBy(t *testing.T, path, user string) bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		t.Fatal(err)
	}
	owner := os.NewFile(uintptr(fd), "owner")
	defer owner.Close()
	a, _ := owner.Stat()
	b, err := os.Stat(user)
	return err == nil && os.SameFile(a, b)
}

func TestPinUserThatFails(t *testing.T) {
	needRoot(t)
	for name, tc := range map[string]struct {
		mapping Mapping
		kinds   []Kind
		setup   func() error
	}{
		"the setup":          {mapped, []Kind{UTS}, func() error { return errors.New("no") }},
		"nothing is mapped":  {Mapping{}, nil, nil},
		"a PID namespace":    {mapped, []Kind{PID}, nil},
		"ids that overflow":  {Mapping{Range{1 << 31, 1 << 31}, Range{0, 1}}, nil, nil},
		"a pin that is here": {mapped, []Kind{IPC, UTS}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(tmpfs(t, unix.MS_PRIVATE), "ns")
			want := 0
			if name == "a pin that is here" {
				want = 1
				os.Mkdir(dir, 0o700)
				os.WriteFile(Path(dir, UTS), nil, 0o600)
			}
			if pins, err := PinUser(dir, tc.mapping, tc.kinds, tc.setup); err == nil {
				t.Errorf("got %v", pins)
			}
			if left, _ := os.ReadDir(dir); len(left) != want {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestOwner(t *testing.T) {
	for name, tc := range map[string]struct {
		m        *Mapping
		uid, gid uint32
		want     [2]uint32
	}{
		"no user namespace": {nil, 5, 6, [2]uint32{5, 6}},
		"root":              {&mapped, 0, 0, [2]uint32{100000, 200000}},
		"a user":            {&mapped, 1000, 999, [2]uint32{101000, 200999}},
		"not mapped":        {&mapped, 65536, 1000, [2]uint32{100000, 200000}},
	} {
		if u, g := tc.m.Owner(tc.uid, tc.gid); u != tc.want[0] || g != tc.want[1] {
			t.Errorf("%s: %d:%d, want %v", name, u, g, tc.want)
		}
	}
}

func BenchmarkPinUser(b *testing.B) {
	needRoot(b)
	dir := filepath.Join(tmpfs(b, unix.MS_PRIVATE), "ns")
	for b.Loop() {
		if _, err := PinUser(dir, mapped, []Kind{Net, IPC, UTS}, LoopbackUp); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := Unpin(dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
