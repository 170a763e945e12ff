package rootfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestPrepareGivesTheUpperTheImagesRoot(t *testing.T) {
	s := openStore(t)
	top := layer(t, map[string]string{"a": "top"})
	if err := errors.Join(os.Chown(top, 7, 8), unix.Chmod(top, 0o1771)); err != nil {
		t.Fatal(err)
	}
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	o, err := s.Prepare("one", []string{top, layer(t, map[string]string{"b": "base"})}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(o.Upper, &st); err != nil || st.Mode&0o7777 != 0o1771 || st.Uid != 7 || st.Gid != 8 {
		t.Errorf("upper: %o %d:%d %v", st.Mode, st.Uid, st.Gid, err)
	}
	if !o.Volatile || len(o.Lower) != 2 || o.Lower[0] != top {
		t.Errorf("%+v", o)
	}
	mountsAs(t, o, map[string]string{"a": "top", "b": "base"})
}

func TestPrepareWithoutLayers(t *testing.T) {
	s := openStore(t)
	o, err := s.Prepare("one", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(o.Upper, &st); err != nil || st.Mode&0o7777 != 0o755 {
		t.Errorf("upper: %o %v", st.Mode, err)
	}
	mountsAs(t, o, nil)
}

// mountsAs shows that the kernel takes the overlay as it is.
func mountsAs(t *testing.T, o Overlay, want map[string]string) {
	t.Helper()
	dir := t.TempDir()
	opts := "lowerdir=" + strings.Join(o.Lower, ":") + ",upperdir=" + o.Upper + ",workdir=" + o.Work + ",volatile"
	if err := linux.Mount("overlay", dir, "overlay", 0, opts); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := linux.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	for name, content := range want {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != content {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), []byte("x"), 0o600); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(o.Upper, "new")); err != nil {
		t.Error(err)
	}
}

func TestAnUpperIsNeverUsedAgain(t *testing.T) {
	s := openStore(t)
	l := []string{layer(t, map[string]string{"a": "x"})}
	o, err := s.Prepare("one", l, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Upper, "old"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare("one", l, nil); !errdefs.IsAlreadyExists(err) {
		t.Fatalf("prepared twice: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Upper, "old")); err != nil {
		t.Errorf("the refused prepare touched the upper: %v", err)
	}
	for range 2 {
		if err := s.Remove("one"); err != nil {
			t.Fatal(err)
		}
	}
	if o, err = s.Prepare("one", l, nil); err != nil {
		t.Fatal(err)
	}
	if e, err := os.ReadDir(o.Upper); err != nil || len(e) != 0 {
		t.Errorf("new upper has %v %v", e, err)
	}
}

func TestListAndFailures(t *testing.T) {
	s := openStore(t)
	for _, id := range []string{"", ".", "..", "../x", "a/b"} {
		if _, err := s.Prepare(id, nil, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("prepare %q: %v", id, err)
		}
		if err := s.Remove(id); !errdefs.IsInvalidArgument(err) {
			t.Errorf("remove %q: %v", id, err)
		}
	}
	if _, err := s.Prepare("lost", []string{"/nonexistent"}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a layer that is gone: %v", err)
	}
	if ids, err := s.List(); err != nil || len(ids) != 0 {
		t.Errorf("after a failed prepare: %v %v", ids, err)
	}
	for _, id := range []string{"a", "b"} {
		if _, err := s.Prepare(id, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if ids, err := s.List(); err != nil || !slices.Equal(ids, []string{"b"}) {
		t.Errorf("%v %v", ids, err)
	}
}

func TestUsage(t *testing.T) {
	s := openStore(t)
	ctx := t.Context()
	if _, err := s.Usage(ctx, "none"); !errdefs.IsNotFound(err) {
		t.Errorf("of nothing: %v", err)
	}
	o, err := s.Prepare("one", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := s.Usage(ctx, "one")
	if err != nil || empty.Inodes != 1 {
		t.Fatalf("empty: %+v %v", empty, err)
	}
	write := func(name string, size int) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(o.Upper, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.Upper, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a/b/c", 100<<10)
	write("d", 50<<10)
	if err := os.Link(filepath.Join(o.Upper, "d"), filepath.Join(o.Upper, "again")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(o.Upper, "host")); err != nil {
		t.Fatal(err)
	}
	if again, _ := s.Usage(ctx, "one"); again != empty {
		t.Errorf("not remembered: %+v", again)
	}
	s.usages["one"].next = time.Now()
	got, err := s.Usage(ctx, "one")
	if err != nil || got.Inodes != 6 { // upper, a, b, c, d, host
		t.Errorf("%+v %v", got, err)
	}
	if grown := got.Bytes - empty.Bytes; grown < 150<<10 || grown > 200<<10 {
		t.Errorf("grown by %d bytes", grown)
	}
	if err := s.Remove("one"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Usage(ctx, "one"); !errdefs.IsNotFound(err) {
		t.Errorf("after removal: %v", err)
	}
}

// Who cannot wait for the end of a walk gets the result before it.
func TestUsageOfALongWalk(t *testing.T) {
	s := openStore(t)
	if _, err := s.Prepare("one", nil, nil); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	// A walk that does not end before it is let.
	u := &usage{walking: make(chan struct{})}
	s.usages["one"] = u
	if got, err := s.Usage(gone, "one"); !errors.Is(err, context.Canceled) {
		t.Errorf("during the first walk: %+v, %v", got, err)
	}
	u.last = Usage{Bytes: 7, Inodes: 8, At: time.Now()}
	if got, err := s.Usage(gone, "one"); err != nil || got != u.last {
		t.Errorf("during the second: %+v, %v", got, err)
	}
	close(u.walking)
	u.walking = nil
	if got, err := s.Usage(t.Context(), "one"); err != nil || got.Inodes != 1 {
		t.Errorf("after it: %+v, %v", got, err)
	}
}

func TestViewIsReadOnlyAndNowhere(t *testing.T) {
	openStore(t) // for its skip
	noLeaks(t)
	v, err := OpenView([]string{layer(t, map[string]string{"a": "top"}), layer(t, map[string]string{"a": "base", "b": "base"})})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for name, want := range map[string]string{"a": "top", "/b": "base"} {
		if b, err := v.ReadFile(name, 100); err != nil || string(b) != want {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
	if _, err := v.ReadFile("a", 2); !errdefs.IsInvalidArgument(err) {
		t.Errorf("beyond the limit: %v", err)
	}
	if fd, err := linux.OpenInRoot(int(v.root.Fd()), "new", unix.O_WRONLY|unix.O_CREAT); !errors.Is(err, unix.EROFS) {
		unix.Close(fd)
		t.Errorf("it can be written: %v", err)
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(b), t.TempDir()) {
		t.Errorf("in the mount table: %v", err)
	}
}

func BenchmarkPrepareRemove(b *testing.B) {
	s := openStore(b)
	l := []string{layer(b, map[string]string{"a": "x"})}
	for b.Loop() {
		if _, err := s.Prepare("one", l, nil); err != nil {
			b.Fatal(err)
		}
		if err := s.Remove("one"); err != nil {
			b.Fatal(err)
		}
	}
}
