package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cri/berth/trash"
	"golang.org/x/sys/unix"
)

// layer makes a directory tree: "path" -> content; "-> target" is a symbolic
// link, "whiteout" overlay's mark of a deleted name, "dir" a directory, "fifo" and
// "device" what they say.
func layer(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case strings.HasPrefix(content, "-> "):
			err = os.Symlink(content[3:], path)
		case content == "whiteout":
			err = unix.Mknod(path, unix.S_IFCHR, 0)
		case content == "device": // /dev/null's
			err = unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
		case content == "fifo":
			err = unix.Mkfifo(path, 0o666)
		case content == "dir":
			err = os.MkdirAll(path, 0o755)
		default:
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func openStore(t testing.TB) *Store {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("layers, whiteouts and overlay need root")
	}
	root := t.TempDir()
	bin, err := trash.Open(filepath.Join(root, "trash"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(root, bin)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// noLeaks fails the test when it left a mount or a descriptor behind.
func noLeaks(t testing.TB) {
	t.Helper()
	count := func() (mounts string, fds int) {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		e, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return string(b), len(e)
	}
	mounts, fds := count()
	t.Cleanup(func() {
		m, f := count()
		if m != mounts {
			t.Errorf("the mount table has changed:\n%s", m)
		}
		if f > fds {
			t.Errorf("%d descriptors, %d before", f, fds)
		}
	})
}
