package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func begin(t *testing.T, s *Store, id digest.Digest, content string) *LayerWriter {
	t.Helper()
	w, err := s.BeginLayer(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.Dir, "file"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return w
}

func settle(t *testing.T, s *Store, ids ...digest.Digest) {
	t.Helper()
	if err := s.settle(context.Background(), ids); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, s *Store, id digest.Digest) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.LayerDir(id), "file"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOneUnpackerPerLayer(t *testing.T) {
	ctx, s, id := context.Background(), open(t, t.TempDir()), digest.FromString("l")
	w := begin(t, s, id, "aborted")

	gone, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("gone"))
	if _, err := s.BeginLayer(gone, id); err == nil || errdefs.IsAlreadyExists(err) {
		t.Fatalf("waits without regard for its context: %v", err)
	}
	if other, err := s.BeginLayer(ctx, digest.FromString("other")); err != nil {
		t.Fatal(err)
	} else {
		other.Abort()
	}

	var wg sync.WaitGroup
	results := make(chan error, 10)
	for range cap(results) {
		wg.Go(func() {
			w, err := s.BeginLayer(ctx, id)
			if err == nil {
				err = errors.Join(os.WriteFile(filepath.Join(w.Dir, "file"), []byte("good"), 0o644), w.Commit(ctx, Layer{}))
			}
			results <- err
		})
	}
	w.Abort() // one of the ten takes over, nine share what it makes
	w.Abort()
	wg.Wait()
	close(results)
	made := 0
	for err := range results {
		switch {
		case err == nil:
			made++
		case !errdefs.IsAlreadyExists(err):
			t.Error(err)
		}
	}
	settle(t, s, id)
	if made != 1 || content(t, s, id) != "good" || !s.HasLayer(id) {
		t.Fatalf("unpacked %d times", made)
	}
	if left, _ := os.ReadDir(s.tmpDir()); len(left) != 0 {
		t.Fatalf("left in tmp: %v", left)
	}
	if err := w.Commit(ctx, Layer{}); !errdefs.IsFailedPrecondition(err) {
		t.Fatal("commit after abort: ", err)
	}
}

func TestLayerOfBothSizesIsCommitted(t *testing.T) {
	for _, entries := range []int{2, smallEntries + 1} { // file by file, and by syncfs
		root, id := t.TempDir(), digest.FromString("l")
		s := open(t, root)
		w := begin(t, s, id, "x")
		unix.Mknod(filepath.Join(w.Dir, "whiteout"), unix.S_IFCHR, 0)
		unix.Mkfifo(filepath.Join(w.Dir, "fifo"), 0o600) // nobody may open it for syncing
		os.Symlink("nowhere", filepath.Join(w.Dir, "link"))
		if err := w.Commit(context.Background(), Layer{Size: 1, Entries: entries, Implied: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
		settle(t, s, id)
		s = open(t, root)
		if !s.HasLayer(id) || s.layers[id].Entries != entries || s.layers[id].Implied[0] != "a" {
			t.Fatalf("%+v", s.layers[id])
		}
	}
}

func TestSyncIsSharedAndHonoursTheContext(t *testing.T) {
	s := open(t, t.TempDir())
	s.sync.turn.Lock() // a round is running
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Sync(gone); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	first := s.sync.next
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := s.Sync(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	for range 5 {
		s.sync.mu.Lock()
		if s.sync.next != first {
			t.Error("another round")
		}
		s.sync.mu.Unlock()
	}
	s.sync.turn.Unlock()
	wg.Wait()
}

func TestDamagedLayer(t *testing.T) {
	id := digest.FromString("a")
	for _, c := range []struct {
		name   string
		damage func(s *Store) error
	}{
		{"meta.json is gone", func(s *Store) error { return os.Remove(filepath.Join(s.layerPath(id), "meta.json")) }},
		{"meta.json is empty", func(s *Store) error { return os.Truncate(filepath.Join(s.layerPath(id), "meta.json"), 0) }},
		{"the tree is gone", func(s *Store) error { return os.RemoveAll(s.LayerDir(id)) }},
		{"the tree is a file", func(s *Store) error {
			return errors.Join(os.RemoveAll(s.LayerDir(id)), os.WriteFile(s.LayerDir(id), nil, 0o600))
		}},
		{"a file in its place", func(s *Store) error {
			return errors.Join(os.RemoveAll(s.layerPath(id)), os.WriteFile(s.layerPath(id), nil, 0o600))
		}},
		{"all of it is gone", func(s *Store) error { return os.RemoveAll(s.layerPath(id)) }},
	} {
		for _, held := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, held %v", c.name, held), func(t *testing.T) {
				ctx, root := context.Background(), t.TempDir()
				s := open(t, root)
				img := must(t)(pull(ctx, s, Image{RepoTags: []string{"a:1"}}, "a", "b"))
				if err := c.damage(s); err != nil {
					t.Fatal(err)
				}
				s = open(t, root)
				if held {
					s.Hold("container", img.Layers)
				}
				if _, err := s.Lookup("a:1"); !errdefs.IsNotFound(err) || len(s.Images()) != 0 || s.HasLayer(id) {
					t.Fatalf("listed: %v", err)
				}
				if _, err := s.Sweep(ctx); err != nil { // takes nothing that the pull could use
					t.Fatal(err)
				}
				if !s.HasLayer(digest.FromString("b")) {
					t.Fatal("the whole layer was swept")
				}
				healed := must(t)(pull(ctx, s, Image{RepoTags: []string{"a:2"}}, "a", "b"))
				if healed.ID != img.ID || !slices.Equal(healed.RepoTags, []string{"a:1", "a:2"}) || content(t, s, id) != "a" {
					t.Fatalf("%+v", healed)
				}
				s.Release("container")
				if _, err := s.Sweep(ctx); err != nil {
					t.Fatal(err)
				}
				checkDisk(t, s)
			})
		}
	}
}

// An image that waits for a layer is listed again when another pull brings it.
func TestLayerHealedByAnotherImage(t *testing.T) {
	ctx, root := context.Background(), t.TempDir()
	s := open(t, root)
	must(t)(pull(ctx, s, Image{RepoTags: []string{"a:1"}}, "base", "a"))
	if err := os.RemoveAll(s.layerPath(digest.FromString("base"))); err != nil {
		t.Fatal(err)
	}
	s = open(t, root)
	must(t)(pull(ctx, s, Image{RepoTags: []string{"b:1"}}, "base", "b"))
	must(t)(s.Lookup("a:1"))
}

func TestUnreadyImageGoesInTheEnd(t *testing.T) {
	ctx, root := context.Background(), t.TempDir()
	s := open(t, root)
	must(t)(pull(ctx, s, Image{RepoTags: []string{"a:1"}}, "a", "b"))
	if err := os.RemoveAll(s.layerPath(digest.FromString("a"))); err != nil {
		t.Fatal(err)
	}
	s = open(t, root)
	s.born = time.Now().Add(-2 * healTime)
	if swept, err := s.Sweep(ctx); err != nil || swept.Images != 1 || swept.Layers != 1 || swept.Blobs != 2 {
		t.Fatalf("%+v, %v", swept, err)
	}
	checkDisk(t, s)
}

func TestHoldKeepsLayers(t *testing.T) {
	ctx, s := context.Background(), open(t, t.TempDir())
	img := must(t)(pull(ctx, s, Image{}, "a", "b"))
	s.Hold("c1", img.Layers[:1])
	s.Hold("c1", img.Layers[1:])
	s.Hold("c2", img.Layers[:1])
	if err := s.Remove(ctx, img.ID); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		release string
		want    int
	}{{"nobody", 0}, {"c1", 1}, {"c2", 1}} {
		s.Release(step.release)
		if swept, err := s.Sweep(ctx); err != nil || swept.Layers != step.want {
			t.Fatalf("after %s: %+v, %v", step.release, swept, err)
		}
	}
	checkDisk(t, s)
}

func TestSweepLeavesWorkInProgress(t *testing.T) {
	ctx, s, id := context.Background(), open(t, t.TempDir()), digest.FromString("l")
	w := begin(t, s, id, "x")
	if swept, err := s.Sweep(ctx); err != nil || swept != (Swept{}) {
		t.Fatalf("%+v, %v", swept, err)
	}
	s.Hold("pull", []digest.Digest{id})
	if err := w.Commit(ctx, Layer{}); err != nil {
		t.Fatal(err)
	}
	if swept, err := s.Sweep(ctx); err != nil || swept != (Swept{}) || !s.HasLayer(id) {
		t.Fatalf("%+v, %v", swept, err)
	}
}

func TestLayerDirs(t *testing.T) {
	ctx, s := context.Background(), open(t, t.TempDir())
	a, b, c := digest.FromString("a"), digest.FromString("b"), digest.FromString("c")
	w := begin(t, s, c, "c")
	if err := unix.Setxattr(w.Dir, "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(ctx, Layer{}); err != nil {
		t.Fatal(err)
	}
	settle(t, s, c)
	for _, t2 := range []struct {
		name         string
		layers, want []digest.Digest
	}{
		{"topmost first", []digest.Digest{a, b}, []digest.Digest{b, a}},
		{"each once, where it is topmost", []digest.Digest{a, b, a}, []digest.Digest{a, b}},
		{"nothing below an opaque root", []digest.Digest{a, c, b}, []digest.Digest{b, c}},
		{"none", nil, nil},
	} {
		var want []string
		for _, d := range t2.want {
			want = append(want, s.LayerDir(d))
		}
		if got := s.LayerDirs(t2.layers); !slices.Equal(got, want) {
			t.Errorf("%s: %q", t2.name, got)
		}
	}
}

func TestImpliedDirectoriesInherit(t *testing.T) {
	ctx, s := context.Background(), open(t, t.TempDir())
	made := func(content string, info Layer, fill func(dir string) error) {
		t.Helper()
		w := begin(t, s, digest.FromString(content), content)
		if err := errors.Join(fill(w.Dir), w.Commit(ctx, info)); err != nil {
			t.Fatal(err)
		}
	}
	mtime := time.Unix(1600000000, 0)
	made("base", Layer{}, func(dir string) error {
		return errors.Join(
			os.MkdirAll(filepath.Join(dir, "tmp"), 0o755), os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky),
			os.MkdirAll(filepath.Join(dir, "home/nonroot"), 0o755), os.Chown(filepath.Join(dir, "home/nonroot"), 65532, 65532),
			unix.Setxattr(filepath.Join(dir, "home/nonroot"), "user.a", []byte("b"), 0),
			unix.Setxattr(filepath.Join(dir, "home/nonroot"), "trusted.overlay.opaque", []byte("y"), 0),
			os.Chtimes(filepath.Join(dir, "home/nonroot"), mtime, mtime),
			os.MkdirAll(filepath.Join(dir, "gone"), 0o700), os.Chmod(filepath.Join(dir, "gone"), 0o700),
			os.Symlink("/etc", filepath.Join(dir, "link")),
		)
	})
	made("middle", Layer{}, func(dir string) error { return unix.Mknod(filepath.Join(dir, "gone"), unix.S_IFCHR, 0) })
	implied := []string{"gone", "home", "home/nonroot", "link", "new", "tmp"}
	made("top", Layer{Implied: implied}, func(dir string) error {
		var errs []error
		for _, p := range implied {
			errs = append(errs, os.MkdirAll(filepath.Join(dir, p), 0o755))
		}
		return errors.Join(errs...)
	})
	must(t)(pull(ctx, s, Image{}, "base", "middle", "top"))
	top := s.LayerDir(digest.FromString("top"))
	for _, c := range []struct {
		path  string
		mode  os.FileMode
		owner uint32
	}{
		{"tmp", os.ModeDir | 0o777 | os.ModeSticky, 0}, {"home", os.ModeDir | 0o755, 0}, {"home/nonroot", os.ModeDir | 0o755, 65532},
		{"gone", os.ModeDir | 0o755, 0}, {"link", os.ModeDir | 0o755, 0}, {"new", os.ModeDir | 0o755, 0},
	} {
		fi, err := os.Lstat(filepath.Join(top, c.path))
		if err != nil {
			t.Fatal(err)
		}
		if owner := fi.Sys().(*unixStat).Uid; fi.Mode() != c.mode || owner != c.owner {
			t.Errorf("%s: %v of %d", c.path, fi.Mode(), owner)
		}
	}
	home := filepath.Join(top, "home/nonroot")
	buf := make([]byte, 10)
	if n, err := unix.Getxattr(home, "user.a", buf); err != nil || string(buf[:n]) != "b" {
		t.Error("attribute: ", err)
	}
	if _, err := unix.Getxattr(home, "trusted.overlay.opaque", buf); !errors.Is(err, unix.ENODATA) {
		t.Error("became opaque: ", err)
	}
	if fi, _ := os.Stat(home); !fi.ModTime().Equal(mtime) {
		t.Error(fi.ModTime())
	}
}

// A pull that fails at its last layer leaves the others to the next one, or to a sweep.
func TestUnsyncedLayers(t *testing.T) {
	ctx, root := context.Background(), t.TempDir()
	s, id := open(t, root), digest.FromString("a")
	unpack := func() {
		t.Helper()
		if err := begin(t, s, id, "a").Commit(ctx, Layer{Size: 4096, Entries: 2}); err != nil {
			t.Fatal(err)
		}
	}
	unpack()
	if _, err := s.BeginLayer(ctx, id); !errdefs.IsAlreadyExists(err) || !s.HasLayer(id) || s.Usage().Bytes != 4096 {
		t.Fatalf("not shared: %v", err)
	}
	if swept, err := s.Sweep(ctx); err != nil || swept != (Swept{Layers: 1, Bytes: 4096}) || s.HasLayer(id) {
		t.Fatalf("%+v, %v", swept, err)
	}
	checkDisk(t, s)

	unpack()
	s = open(t, root) // after a crash
	if s.HasLayer(id) {
		t.Fatal("a layer that was never synced is trusted after a crash")
	}
	if _, err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	checkDisk(t, s)

	unpack()
	must(t)(pull(ctx, s, Image{}, "a", "b"))
	checkWhole(t, s)
}

func TestImagesThatShareUnsyncedLayersSettleTogether(t *testing.T) {
	ctx, s := context.Background(), open(t, t.TempDir())
	layers := []string{"a", "b", "c", "d"}
	for i, id := range diffIDs(layers) {
		w := begin(t, s, id, layers[i])
		if err := w.Commit(ctx, Layer{Entries: smallEntries}); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i := range 8 {
		mine := append(slices.Clone(layers[i%4:]), layers[:i%4]...)
		wg.Go(func() {
			if _, err := pull(ctx, s, Image{}, mine...); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(s.Images()) != 4 || len(s.unsynced) != 0 {
		t.Fatalf("%d images, %d unsynced", len(s.Images()), len(s.unsynced))
	}
	checkWhole(t, s)
}

// A disk that fails to write is not forgiven because somebody else was told.
func TestLayerUnpackedDuringAWriteError(t *testing.T) {
	ctx, s := context.Background(), open(t, t.TempDir())
	w := begin(t, s, digest.FromString("a"), "a")
	s.sync.mu.Lock()
	s.sync.failed++ // a round for another image
	s.sync.mu.Unlock()
	if err := w.Commit(ctx, Layer{Entries: smallEntries + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := pull(ctx, s, Image{}, "a"); !errdefs.IsDataLoss(err) || len(s.Images()) != 0 {
		t.Fatal(err)
	}
	must(t)(pull(ctx, s, Image{}, "a"))
	checkWhole(t, s)
}

func TestCommitThatIsCancelledWhileItSyncs(t *testing.T) {
	ctx, s := context.Background(), open(t, t.TempDir())
	if err := begin(t, s, digest.FromString("a"), "a").Commit(ctx, Layer{Entries: smallEntries + 1}); err != nil {
		t.Fatal(err)
	}
	s.sync.turn.Lock()
	gone, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("gone"))
	if _, err := pull(gone, s, Image{}, "a"); err == nil || len(s.Images()) != 0 {
		t.Fatal(err)
	}
	s.sync.turn.Unlock()
	must(t)(pull(ctx, s, Image{}, "a"))
}
