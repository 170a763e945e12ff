package store

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func open(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// pull does with the store what a pull does, each layer being one file.
func pull(ctx context.Context, s *Store, img Image, layers ...string) (*Image, error) {
	manifest, config := documents(layers)
	ids := diffIDs(layers)
	s.Hold("pull", ids)
	defer s.Release("pull")
	for i, l := range layers {
		w, err := s.BeginLayer(ctx, ids[i])
		if errdefs.IsAlreadyExists(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(w.Dir, "file"), []byte(l), 0o644); err != nil {
			w.Abort()
			return nil, err
		}
		if err := w.Commit(ctx, Layer{Size: 4096, Entries: 2}); err != nil {
			return nil, err
		}
	}
	return s.Commit(ctx, img, manifest, config)
}

func diffIDs(layers []string) (ids []digest.Digest) {
	for _, l := range layers {
		ids = append(ids, digest.FromString(l))
	}
	return ids
}

func documents(layers []string) (manifest, config []byte) {
	config, _ = json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: diffIDs(layers)},
	})
	manifest, _ = json.Marshal(ocispec.Manifest{Config: ocispec.Descriptor{Digest: digest.FromBytes(config)}})
	return manifest, config
}

func TestPullListReopenRemoveSweep(t *testing.T) {
	ctx, root := context.Background(), t.TempDir()
	s := open(t, root)
	img, err := pull(ctx, s, Image{RepoTags: []string{"docker.io/library/a:1"}}, "base", "top")
	if err != nil {
		t.Fatal(err)
	}
	if img.Size <= 2*4096 || len(s.Images()) != 1 {
		t.Fatalf("%+v", img)
	}
	s = open(t, root)
	got, err := s.Lookup("docker.io/library/a:1")
	if err != nil || got.ID != img.ID || got.Size != img.Size {
		t.Fatalf("%+v, %v", got, err)
	}
	if swept, err := s.Sweep(ctx); err != nil || swept != (Swept{}) {
		t.Fatalf("swept %+v, %v", swept, err)
	}
	if err := s.Remove(ctx, img.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(img.ID); !errdefs.IsNotFound(err) {
		t.Fatal(err)
	}
	if swept, err := s.Sweep(ctx); err != nil || swept != (Swept{Layers: 2, Blobs: 2, Bytes: 2 * 4096}) {
		t.Fatalf("swept %+v, %v", swept, err)
	}
	if u := s.Usage(); u.Bytes != 0 || u.Inodes != 0 {
		t.Fatalf("%+v", u)
	}
}
