package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Layer is what is recorded of a layer, as meta.json beside its tree.
type Layer struct {
	Version int           `json:"version"`
	DiffID  digest.Digest `json:"diffID"`
	Size    int64         `json:"size"`              // bytes on the disk, as layer.Result has it
	Entries int           `json:"entries"`           // inodes
	Implied []string      `json:"implied,omitempty"` // directories without an entry of their own
	Opaque  bool          `json:"opaque,omitempty"`  // hides all layers below; found at the commit
	Created time.Time     `json:"created"`
}

const layerVersion = 1

// Names of trees that are no layers (any more, or yet).
const (
	tempPrefix   = "layer-"     // in tmp, which others use too: is being unpacked
	unsyncedMark = ".unsynced"  // behind a layer's name: unpacked, not durable
	replacedMark = ".replaced-" // behind a layer's name: was damaged, is replaced, may be in use
)

func (s *Store) layerPath(d digest.Digest) string { return filepath.Join(s.layersDir(), d.Encoded()) }

// LayerDir is where the tree of a layer is, or will be.
func (s *Store) LayerDir(diffID digest.Digest) string {
	return filepath.Join(s.layerPath(diffID), "fs")
}

// LayerDirs are the directories for an overlay of the layers (base first):
// topmost first, and each once, since overlayfs refuses a directory that is
// there twice. A layer hides all of its lower self, so that one is left out.
// What is below a layer whose root is opaque is left out too: overlayfs looks at
// that mark in every directory but the root (seen on Linux 6.18).
func (s *Store) LayerDirs(layers []digest.Digest) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var dirs []string
	seen := map[digest.Digest]bool{}
	for i := len(layers) - 1; i >= 0; i-- {
		if l := layers[i]; !seen[l] {
			seen[l] = true
			dirs = append(dirs, s.LayerDir(l))
		}
		if s.layers[layers[i]].Opaque {
			break
		}
	}
	return dirs
}

// Layers are the whole layers of the store.
func (s *Store) Layers() map[digest.Digest]Layer {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[digest.Digest]Layer, len(s.layers)+len(s.unsynced))
	for d, u := range s.unsynced {
		all[d] = u.info
	}
	for d, l := range s.layers {
		all[d] = l
	}
	return all
}

// HasLayer reports whether a layer is unpacked. Who wants to rely on it holds
// the layer first.
func (s *Store) HasLayer(diffID digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasLayer(diffID)
}

func (s *Store) hasLayer(d digest.Digest) bool {
	_, whole := s.layers[d]
	_, unsynced := s.unsynced[d]
	return whole || unsynced
}

// loadLayers reads what is recorded of the layers. One whose record or tree is
// missing is not whole: it is left to be replaced. One that was not made durable
// may be anything by now.
func (s *Store) loadLayers() error {
	entries, err := os.ReadDir(s.layersDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), unsyncedMark) {
			if err := s.bin.Discard(filepath.Join(s.layersDir(), e.Name())); err != nil {
				s.log.Warn("unfinished layer stays until the next sweep", "error", err)
			}
			continue
		}
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if checkDigest(d) != nil {
			continue // Sweep looks at it
		}
		l, err := s.readLayer(d)
		if err != nil {
			s.log.Error("layer is damaged", "layer", d, "error", err)
			continue
		}
		s.layers[d] = l
	}
	return nil
}

func (s *Store) readLayer(d digest.Digest) (l Layer, err error) {
	if err := atomicfile.ReadJSON(filepath.Join(s.layerPath(d), "meta.json"), &l); err != nil {
		return l, err
	}
	if l.Version != layerVersion || l.DiffID != d {
		return l, fmt.Errorf("meta.json is version %d of layer %q: %w", l.Version, l.DiffID, errdefs.ErrDataLoss)
	}
	fi, err := os.Lstat(s.LayerDir(d))
	if err == nil && !fi.IsDir() {
		err = fmt.Errorf("the tree is no directory: %w", errdefs.ErrDataLoss)
	}
	return l, err
}
