package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
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

// tempPrefix marks what is ours in tmp, which others use too.
const tempPrefix = "layer-"

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

// HasLayer reports whether a layer is there and whole. Who wants to rely on it
// holds the layer first.
func (s *Store) HasLayer(diffID digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, whole := s.layers[diffID]
	return whole
}

// LayerWriter is a layer on its way into the store.
type LayerWriter struct {
	Dir string // empty directory to unpack into

	store    *Store
	diffID   digest.Digest
	temp     string
	failures uint64 // of the syncer, when this began
	over     bool
}

// BeginLayer gives the right to unpack a layer. While somebody else has it,
// BeginLayer waits; when the layer is in the store, now or after the wait, the
// error is of the kind ErrAlreadyExists and there is nothing to do. The caller
// ends with Commit or Abort.
func (s *Store) BeginLayer(ctx context.Context, diffID digest.Digest) (*LayerWriter, error) {
	if err := checkDigest(diffID); err != nil {
		return nil, fmt.Errorf("begin layer: %w", err)
	}
	if err := s.claim(ctx, diffID); err != nil {
		return nil, fmt.Errorf("begin layer %s: %w", diffID, err)
	}
	w := &LayerWriter{store: s, diffID: diffID, failures: s.sync.failures()}
	if err := w.makeTemp(); err != nil {
		s.unclaim(diffID)
		return nil, fmt.Errorf("begin layer %s: %w", diffID, err)
	}
	return w, nil
}

// claim makes the caller the one that works on a layer that is not there.
func (s *Store) claim(ctx context.Context, d digest.Digest) error {
	for {
		s.mu.Lock()
		if _, whole := s.layers[d]; whole {
			s.mu.Unlock()
			return errdefs.ErrAlreadyExists
		}
		wait := s.busy[d]
		if wait == nil {
			s.busy[d] = make(chan struct{})
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Store) unclaim(d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.busy[d])
	delete(s.busy, d)
}

// makeTemp makes the directory to unpack into. Its name is random, since the
// hash of the name is what SpreadDirs chooses the place by: a layer that was
// removed a moment ago shall not come back to the inodes it had.
func (w *LayerWriter) makeTemp() (err error) {
	w.temp, err = os.MkdirTemp(w.store.tmpDir(), tempPrefix+w.diffID.Encoded()+".")
	if err != nil {
		return err
	}
	w.Dir = filepath.Join(w.temp, "fs")
	return os.Mkdir(w.Dir, 0o755)
}

// Abort gives the layer up. After Commit it does nothing.
func (w *LayerWriter) Abort() {
	if w.over {
		return
	}
	w.over = true
	if err := w.store.bin.Discard(w.temp); err != nil {
		w.store.log.Warn("unfinished layer stays in tmp until the next sweep", "error", err)
	}
	w.store.unclaim(w.diffID)
}

// Commit makes the layer durable and gives it its name. Size, Entries and
// Implied are taken from info. An error means that the layer is not in the
// store; Abort is done then.
func (w *LayerWriter) Commit(ctx context.Context, info Layer) error {
	if w.over {
		return fmt.Errorf("commit layer %s: it is committed or aborted: %w", w.diffID, errdefs.ErrFailedPrecondition)
	}
	info.Version, info.DiffID, info.Created = layerVersion, w.diffID, time.Now().UTC()
	opaque, err := linux.Lgetxattr(w.Dir, "trusted.overlay.opaque")
	if err == nil {
		info.Opaque = opaque != nil
		err = w.commit(ctx, info)
	}
	if err != nil {
		w.Abort()
		return fmt.Errorf("commit layer %s: %w", w.diffID, err)
	}
	w.over = true
	s := w.store
	s.mu.Lock()
	s.layers[w.diffID] = info
	s.rebuild() // images that waited for this layer to be healed
	s.mu.Unlock()
	s.unclaim(w.diffID)
	return nil
}

func (w *LayerWriter) commit(ctx context.Context, info Layer) error {
	s := w.store
	if err := atomicfile.WriteJSON(filepath.Join(w.temp, "meta.json"), info); err != nil {
		return err
	}
	if err := fault.Hit("layer.commit.before-sync"); err != nil {
		return err
	}
	if err := w.makeDurable(ctx, info); err != nil {
		return fmt.Errorf("make durable: %w", err)
	}
	if err := fault.Hit("layer.commit.before-rename"); err != nil {
		return err
	}
	final := s.layerPath(w.diffID)
	err := os.Rename(w.temp, final)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
		err = w.replace(final, info)
	}
	if err != nil {
		return err
	}
	if err := fault.Hit("layer.commit.after-rename"); err != nil {
		return err
	}
	return atomicfile.SyncDir(s.layersDir())
}

// replace puts the layer in the place of a damaged one. A container that runs
// on the damaged one goes on with what it has: the old tree is kept while the
// layer is held.
func (w *LayerWriter) replace(final string, info Layer) error {
	s := w.store
	if err := linux.Exchange(w.temp, final); err != nil {
		return err
	}
	if err := fault.Hit("layer.commit.after-exchange"); err != nil {
		return err
	}
	if s.held(w.diffID) {
		return os.Rename(w.temp, final+replacedMark+strconv.FormatInt(info.Created.UnixNano(), 10))
	}
	return s.bin.Discard(w.temp)
}

// replacedMark stands in the name of a tree that was replaced while it was held.
const replacedMark = ".replaced-"

// loadLayers reads what is recorded of the layers. One whose record or tree is
// missing is not whole: it is left to be replaced.
func (s *Store) loadLayers() error {
	entries, err := os.ReadDir(s.layersDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
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
