package netns

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berth-cri/berth/linux/namespace"
)

// pin makes a namespace with lo up. TempDir may lie on a disk: nsfs does not care.
func pin(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make namespaces")
	}
	dir := filepath.Join(t.TempDir(), "ns")
	pins, err := namespace.Pin(dir, []namespace.Kind{namespace.Net}, namespace.LoopbackUp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := namespace.Unpin(dir); err != nil {
			t.Error(err)
		}
	})
	return pins[namespace.Net]
}

func TestSocketsStayInTheNamespace(t *testing.T) {
	path := pin(t)
	n, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var l net.Listener
	if err := n.Do(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:4711")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if c, err := net.Dial("tcp", "127.0.0.1:4711"); err == nil {
		c.Close()
		t.Error("the host reaches a listener of the pod")
	}
	h, err := n.Handle()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil || len(links) != 1 || links[0].Attrs().Name != "lo" {
		t.Errorf("links: %v, %v; want only lo", links, err)
	}
}

func TestThreadsComeBack(t *testing.T) {
	path := pin(t)
	home, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			err := Do(path, func() error {
				if here, _ := os.Readlink("/proc/thread-self/ns/net"); here == home {
					t.Error("not inside")
				}
				switch i % 3 {
				case 0:
					return boom
				case 1:
					panic("boom")
				}
				runtime.Goexit()
				return nil
			})
			if err == nil || i%3 == 0 && !errors.Is(err, boom) {
				t.Errorf("case %d: %v", i%3, err)
			}
		})
	}
	wg.Wait()
	var away []string
	for range 200 { // a thread that is thrown away takes a moment to end
		if away = threadsAway(t, home); len(away) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("threads away from %s: %v", home, away)
}

func threadsAway(t *testing.T, home string) (away []string) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if ns, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net"); err == nil && ns != home {
			away = append(away, task.Name()+" in "+ns)
		}
	}
	return away
}

func TestOpenOfWhatIsGone(t *testing.T) {
	bare := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(bare, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"empty path": "", "no file": bare + "x", "a file without a mount": bare} {
		if _, err := Open(path); !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
}

func BenchmarkDo(b *testing.B) {
	n, err := Open(pin(b))
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	for b.Loop() {
		if err := n.Do(func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
