package imageservice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cri/berth/imageservice/registry/registrytest"
	"github.com/berth-cri/berth/imageservice/store"
	"github.com/berth-cri/berth/trash"
	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	crierrors "k8s.io/cri-api/pkg/errors"
)

func open(t *testing.T, change func(*Options)) (*Service, *registrytest.Server, string) {
	t.Helper()
	o := Options{Root: t.TempDir(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	var err error
	if o.Bin, err = trash.Open(filepath.Join(o.Root, "trash")); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, registrytest.Start(t), o.Root
}

func image(t *testing.T, n int) v1.Image {
	return registrytest.Image(t, registrytest.Gzip(t, map[string]string{"f": fmt.Sprint(n)}))
}

func fetch(t *testing.T, s *Service, name string) *store.Image {
	t.Helper()
	id, err := s.Pull(t.Context(), PullRequest{Image: name})
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Lookup(name)
	if err != nil || img.ID != id {
		t.Fatalf("%s was pulled as %s, and is %v, %v", name, id, img, err)
	}
	return img
}

func TestLookup(t *testing.T) {
	s, srv, _ := open(t, nil)
	digest := srv.Push(t, "a/b:latest", image(t, 1))
	img := fetch(t, s, srv.Host+"/a/b")
	hex := strings.TrimPrefix(img.ID, "sha256:")
	for name, c := range map[string]struct {
		name string
		kind error
	}{
		"the tag":               {srv.Host + "/a/b:latest", nil},
		"no tag":                {srv.Host + "/a/b", nil},
		"the digest":            {srv.Host + "/a/b@" + digest, nil},
		"tag and digest":        {srv.Host + "/a/b:latest@" + digest, nil},
		"any tag with it":       {srv.Host + "/a/b:x@" + digest, nil},
		"the id":                {img.ID, nil},
		"the id in hex":         {hex, nil},
		"a short id":            {hex[:12], nil},
		"a short id with sha":   {"sha256:" + hex[:12], nil},
		"another tag":           {srv.Host + "/a/b:2", errdefs.ErrNotFound},
		"another registry":      {"a/b", errdefs.ErrNotFound},
		"another digest":        {srv.Host + "/a/b@" + img.ID, errdefs.ErrNotFound},
		"the digest as an id":   {digest, errdefs.ErrNotFound},
		"a name that no one is": {"A b", errdefs.ErrNotFound},
		"nothing":               {"", errdefs.ErrInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := s.Lookup(c.name)
			if !errors.Is(err, c.kind) || err == nil && got.ID != img.ID {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	if img.Config.Config.User != "1002" || img.Size == 0 {
		t.Errorf("%+v", img)
	}
}

func TestPullRefuses(t *testing.T) {
	s, srv, _ := open(t, nil)
	for name, c := range map[string]struct {
		r    PullRequest
		kind error
	}{
		"no name":    {PullRequest{}, errdefs.ErrInvalidArgument},
		"a bad name": {PullRequest{Image: "A/b c"}, errdefs.ErrInvalidArgument},
		"bad auth":   {PullRequest{Image: srv.Host + "/a/b", Auth: &Auth{Auth: "%"}}, errdefs.ErrInvalidArgument},
		"nobody":     {PullRequest{Image: "127.0.0.1:1/a/b"}, crierrors.ErrRegistryUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := s.Pull(t.Context(), c.r)
			if id != "" || !errors.Is(err, c.kind) {
				t.Errorf("%q, %v", id, err)
			}
			if c.kind == crierrors.ErrRegistryUnavailable && !strings.HasPrefix(err.Error(), "RegistryUnavailable: ") {
				t.Error(err)
			}
		})
	}
}

func TestRemoveTakesAllNames(t *testing.T) {
	s, srv, root := open(t, nil)
	for _, by := range []string{"tag", "other tag", "digest", "id", "short id"} {
		t.Run("by "+by, func(t *testing.T) {
			digest := srv.Push(t, "a/b:1", image(t, 1))
			srv.Push(t, "c/d:2", image(t, 1))
			fetch(t, s, srv.Host+"/a/b:1")
			img := fetch(t, s, srv.Host+"/c/d:2")
			if len(img.RepoTags) != 2 || len(img.RepoDigests) != 2 || len(s.List()) != 1 {
				t.Fatalf("%v %v", img.RepoTags, img.RepoDigests)
			}
			name := map[string]string{
				"tag": srv.Host + "/a/b:1", "other tag": srv.Host + "/c/d:2", "digest": srv.Host + "/a/b@" + digest,
				"id": img.ID, "short id": img.ID[7:19],
			}[by]
			if err := s.Remove(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if len(s.List()) != 0 {
				t.Error("it is listed")
			}
			for _, n := range append(img.Names(), img.ID) {
				if _, err := s.Lookup(n); !errdefs.IsNotFound(err) {
					t.Errorf("%s: %v", n, err)
				}
			}
			if err := s.Remove(t.Context(), name); !errdefs.IsNotFound(err) {
				t.Errorf("again: %v", err)
			}
		})
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"blobs/sha256", "layers/sha256", "tmp", "trash"} {
		if left, err := os.ReadDir(filepath.Join(root, dir)); err != nil || len(left) > 0 {
			t.Errorf("%s: %v %v", dir, left, err)
		}
	}
	if u := s.FsUsage(); u.Bytes != 0 || u.Mountpoint != root {
		t.Errorf("%+v", u)
	}
}

func TestConcurrentRemovalsAndPulls(t *testing.T) {
	s, srv, _ := open(t, nil)
	srv.Push(t, "a/b:1", image(t, 1))
	name := srv.Host + "/a/b:1"
	ctx, stop := context.WithCancel(t.Context())
	var sweeper, workers sync.WaitGroup
	sweeper.Go(func() { s.Run(ctx) })
	for range 4 {
		workers.Go(func() {
			for range 10 {
				if _, err := s.Pull(ctx, PullRequest{Image: name}); err != nil {
					t.Error(err)
				}
				if img, err := s.HoldImage("x", name); err == nil {
					if _, err := os.Stat(filepath.Join(s.LayerDir(img.Layers[0]), "f")); err != nil {
						t.Error(err)
					}
				}
				if err := s.Remove(ctx, name); err != nil && !errdefs.IsNotFound(err) {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	stop()
	sweeper.Wait()
}

func TestLayersLiveAsLongAsSomebodyHoldsThem(t *testing.T) {
	s, srv, _ := open(t, nil)
	srv.Push(t, "a/b:1", image(t, 1))
	img := fetch(t, s, srv.Host+"/a/b:1")
	if _, err := s.HoldImage("container/x", img.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), img.ID); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.LayerDir(img.Layers[0]), "f")
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("a held layer is gone: %v", err)
	}
	if _, err := s.HoldImage("container/y", img.ID); !errdefs.IsNotFound(err) {
		t.Error(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	s.Release("container/x")
	for range 1000 { // Run is told
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	<-done
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a layer that nobody holds: %v", err)
	}
}

func TestPinned(t *testing.T) {
	var srvHost string
	probe := registrytest.Start(t)
	srvHost = probe.Host
	s, _, _ := open(t, func(o *Options) { o.Pinned = []string{srvHost + "/pinned/*", srvHost + "/one", "busybox"} })
	for _, name := range []string{"pinned/deep/x:1", "one:latest", "one:2", "free:1"} {
		probe.Push(t, name, image(t, len(name)))
		img := fetch(t, s, srvHost+"/"+name)
		want := strings.HasPrefix(name, "pinned/") || name == "one:latest"
		if img.Pinned != want {
			t.Errorf("%s: pinned %v", name, img.Pinned)
		}
		for _, listed := range s.List() {
			if listed.ID == img.ID && listed.Pinned != want {
				t.Errorf("%s: listed as pinned %v", name, listed.Pinned)
			}
		}
		err := s.Remove(t.Context(), img.ID)
		if want != errdefs.IsFailedPrecondition(err) || !want && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{"A b", "*", "a*b", ""} {
		if _, err := Open(Options{Root: t.TempDir(), Settings: Settings{Pinned: []string{bad}}}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestImagesOutliveTheService(t *testing.T) {
	s, srv, root := open(t, nil)
	srv.Push(t, "a/b:1", image(t, 1))
	img := fetch(t, s, srv.Host+"/a/b:1")
	again, _, _ := open(t, func(o *Options) { o.Root, o.Bin = root, nil })
	if got, err := again.Lookup(srv.Host + "/a/b:1"); err != nil || got.ID != img.ID {
		t.Errorf("%v %v", got, err)
	}
}
