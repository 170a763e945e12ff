package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berth-cri/berth/fault"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

func must(t *testing.T) func(*Image, error) *Image {
	return func(img *Image, err error) *Image {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
}

func TestLookup(t *testing.T) {
	ctx, s := context.Background(), open(t, t.TempDir())
	a := must(t)(pull(ctx, s, Image{RepoTags: []string{"docker.io/library/a:1", "cafe"}, RepoDigests: []string{"docker.io/library/a@sha256:" + strings.Repeat("1", 64)}}, "a"))
	hex := strings.TrimPrefix(a.ID, "sha256:")
	// Until another image has the same first digit.
	b := a
	for i := 0; b.ID[7] != a.ID[7] || b == a; i++ {
		b = must(t)(pull(ctx, s, Image{}, fmt.Sprint("b", i)))
	}
	for _, c := range []struct {
		what, name string
		want       *Image
		is         func(error) bool
	}{
		{"tag", "docker.io/library/a:1", a, nil},
		{"digest", a.RepoDigests[0], a, nil},
		{"a name that looks like an id", "cafe", a, nil},
		{"id", a.ID, a, nil},
		{"id without its algorithm", hex, a, nil},
		{"short id", hex[:13], a, nil},
		{"short id with the algorithm", a.ID[:20], a, nil},
		{"id that another begins with", hex[:1], nil, errdefs.IsInvalidArgument},
		{"id of nothing", strings.Repeat("0", 64), nil, errdefs.IsNotFound},
		{"longer than an id", hex + "0", nil, errdefs.IsNotFound},
		{"no hex", "zzz", nil, errdefs.IsNotFound},
		{"upper case", strings.ToUpper(hex), nil, errdefs.IsNotFound},
		{"another tag", "docker.io/library/a:2", nil, errdefs.IsNotFound},
		{"only the algorithm", "sha256:", nil, errdefs.IsNotFound},
		{"nothing", "", nil, errdefs.IsInvalidArgument},
	} {
		t.Run(c.what, func(t *testing.T) {
			got, err := s.Lookup(c.name)
			if c.is == nil && (err != nil || got.ID != c.want.ID) || c.is != nil && !c.is(err) {
				t.Fatalf("%v, %v", got, err)
			}
		})
	}
}

func TestNamesMergeAndMove(t *testing.T) {
	ctx, root := context.Background(), t.TempDir()
	s := open(t, root)
	must(t)(pull(ctx, s, Image{RepoTags: []string{"r:2", "r:1"}, RepoDigests: []string{"r@x"}, Pinned: true}, "a"))
	a := must(t)(pull(ctx, s, Image{RepoTags: []string{"q:1", "r:1"}, RepoDigests: []string{"q@x"}}, "a"))
	if !slices.Equal(a.RepoTags, []string{"q:1", "r:1", "r:2"}) || !slices.Equal(a.RepoDigests, []string{"q@x", "r@x"}) || !a.Pinned {
		t.Fatalf("merged to %+v", a)
	}
	b := must(t)(pull(ctx, s, Image{RepoTags: []string{"q:1", "r:1", "r:2"}, RepoDigests: []string{"q@y"}}, "b"))
	for range 2 {
		if got := must(t)(s.Lookup("r:1")); got.ID != b.ID {
			t.Fatalf("the tag is still with %s", got.ID)
		}
		got := must(t)(s.Lookup(a.ID)) // listed without a tag
		if len(got.RepoTags) != 0 || !slices.Equal(got.RepoDigests, []string{"q@x", "r@x"}) || len(s.Images()) != 2 {
			t.Fatalf("%+v", got)
		}
		s = open(t, root) // and the same after a restart
	}
	if err := s.Untag(ctx, "r:1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Untag(ctx, "r:1"); err != nil {
		t.Fatal("a second time: ", err)
	}
	s = open(t, root)
	if got := must(t)(s.Lookup(b.ID)); !slices.Equal(got.RepoTags, []string{"q:1", "r:2"}) {
		t.Fatalf("%+v", got)
	}
}

func TestCommitRefuses(t *testing.T) {
	ctx, s := context.Background(), open(t, t.TempDir())
	must(t)(pull(ctx, s, Image{}, "there"))
	manifest, config := documents([]string{"there"})
	other := digest.FromString("other")
	missing, missingConfig := documents([]string{"there", "missing"})
	for _, c := range []struct {
		name             string
		img              Image
		manifest, config []byte
		is               func(error) bool
	}{
		{"an id that is not the config's digest", Image{ID: other.String()}, manifest, config, errdefs.IsInvalidArgument},
		{"another manifest", Image{Manifest: other}, manifest, config, errdefs.IsInvalidArgument},
		{"layers that the config does not have", Image{Layers: []digest.Digest{other}}, manifest, config, errdefs.IsInvalidArgument},
		{"a config that is none", Image{}, manifest, []byte("<html>"), errdefs.IsInvalidArgument},
		{"a layer id that is a path", Image{}, manifest, []byte(`{"rootfs":{"diff_ids":["../../etc"]}}`), errdefs.IsInvalidArgument},
		{"a layer by sha512", Image{}, manifest, []byte(`{"rootfs":{"diff_ids":["sha512:` + strings.Repeat("0", 128) + `"]}}`), errdefs.IsInvalidArgument},
		{"a layer that is not there", Image{}, missing, missingConfig, errdefs.IsFailedPrecondition},
	} {
		t.Run(c.name, func(t *testing.T) {
			if img, err := s.Commit(ctx, c.img, c.manifest, c.config); !c.is(err) {
				t.Fatalf("%v, %v", img, err)
			}
		})
	}
	if n := len(s.Images()); n != 1 {
		t.Fatalf("%d images", n)
	}
}

func TestRemoveOfOneImageByMany(t *testing.T) {
	ctx, s := context.Background(), open(t, t.TempDir())
	img := must(t)(pull(ctx, s, Image{RepoTags: []string{"a:1", "a:2"}}, "a"))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := s.Remove(ctx, img.ID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(s.Images()) != 0 {
		t.Fatal("still listed")
	}
	if err := s.Remove(ctx, "../../etc"); !errdefs.IsInvalidArgument(err) {
		t.Fatal(err)
	}
}

// What a disk can do to a record or a blob stops nothing and is healed by a pull.
func TestBrokenRecords(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, s *Store, img *Image)
	}{
		{"record of zero bytes", func(t *testing.T, s *Store, img *Image) { overwrite(t, s.recordPath(img.ID), "") }},
		{"record that is garbage", func(t *testing.T, s *Store, img *Image) { overwrite(t, s.recordPath(img.ID), "\x00\x00\x00") }},
		{"record of a later version", func(t *testing.T, s *Store, img *Image) { overwrite(t, s.recordPath(img.ID), `{"version":9}`) }},
		{"record of another image", func(t *testing.T, s *Store, img *Image) {
			b, _ := os.ReadFile(s.recordPath(img.ID))
			overwrite(t, s.recordPath("sha256:"+strings.Repeat("0", 64)), string(b))
			os.Remove(s.recordPath(img.ID))
		}},
		{"config of zero bytes", func(t *testing.T, s *Store, img *Image) { overwrite(t, s.blobPath(digest.Digest(img.ID)), "") }},
		{"config is gone", func(t *testing.T, s *Store, img *Image) { os.Remove(s.blobPath(digest.Digest(img.ID))) }},
		{"manifest is garbage", func(t *testing.T, s *Store, img *Image) { overwrite(t, s.blobPath(img.Manifest), "{}") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, root := context.Background(), t.TempDir()
			s := open(t, root)
			img := must(t)(pull(ctx, s, Image{RepoTags: []string{"a:1"}}, "a"))
			must(t)(pull(ctx, s, Image{RepoTags: []string{"b:1"}}, "b"))
			c.damage(t, s, img)
			s = open(t, root)
			if len(s.Images()) != 1 {
				t.Fatalf("%d images", len(s.Images()))
			}
			if aside, _ := os.ReadDir(filepath.Join(root, "images", "broken")); len(aside) != 1 {
				t.Fatalf("set aside: %v", aside)
			}
			must(t)(pull(ctx, s, Image{RepoTags: []string{"a:1"}}, "a"))
			if got := must(t)(open(t, root).Lookup("a:1")); got.ID != img.ID {
				t.Fatalf("%+v", got)
			}
		})
	}
}

func overwrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A tag that is on its way between two images when the disk fails.
func TestMovedTagWhoseOldRecordCannotBeWritten(t *testing.T) {
	ctx, root := context.Background(), t.TempDir()
	s := open(t, root)
	must(t)(pull(ctx, s, Image{RepoTags: []string{"r:1"}}, "a"))
	arm(t, "image.commit.before-loser=1*error(full)->off")
	b := must(t)(pull(ctx, s, Image{RepoTags: []string{"r:1"}}, "b"))
	for range 3 {
		if got := must(t)(s.Lookup("r:1")); got.ID != b.ID || len(s.Images()) != 2 {
			t.Fatalf("%+v", got)
		}
		s = open(t, root)
	}
	if err := s.Remove(ctx, b.ID); err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, root).Lookup("r:1"); !errdefs.IsNotFound(err) {
		t.Fatalf("the tag is back: %+v, %v", got, err)
	}
}

func arm(t *testing.T, text string) {
	t.Helper()
	if err := fault.Arm(text); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range strings.Split(text, ";") {
			name, _, _ := strings.Cut(p, "=")
			fault.Set(name, "")
		}
	})
}

func TestFailedCommitLeavesTheOldImage(t *testing.T) {
	ctx, s := context.Background(), open(t, t.TempDir())
	must(t)(pull(ctx, s, Image{RepoTags: []string{"r:1"}}, "a"))
	arm(t, "image.commit.before-record=1*error(full)->off")
	if _, err := pull(ctx, s, Image{RepoTags: []string{"r:1", "r:2"}}, "b"); !errors.Is(err, fault.ErrInjected) {
		t.Fatal(err)
	}
	if img := must(t)(s.Lookup("r:1")); img.Layers[0] != digest.FromString("a") || len(s.Images()) != 1 {
		t.Fatalf("%+v", img)
	}
	must(t)(pull(ctx, s, Image{RepoTags: []string{"r:1", "r:2"}}, "b"))
}
