package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

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
// BeginLayer waits; when the layer is unpacked, now or after the wait, the
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
		wait := s.busy[d]
		if wait == nil {
			defer s.mu.Unlock()
			if s.hasLayer(d) {
				return errdefs.ErrAlreadyExists
			}
			s.busy[d] = make(chan struct{})
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

// tryClaim makes the caller the one that works on a layer, unless there is one.
func (s *Store) tryClaim(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[d] != nil {
		return false
	}
	s.busy[d] = make(chan struct{})
	return true
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

// Commit declares the layer unpacked: from now on other pulls share it. It
// becomes durable, and gets its name, with the first image that is committed
// with it. Size, Entries and Implied are taken from info. After an error Abort
// is done.
func (w *LayerWriter) Commit(_ context.Context, info Layer) error {
	if w.over {
		return fmt.Errorf("commit layer %s: it is committed or aborted: %w", w.diffID, errdefs.ErrFailedPrecondition)
	}
	info.Version, info.DiffID, info.Created = layerVersion, w.diffID, time.Now().UTC()
	u := unsynced{info: info, path: w.store.layerPath(w.diffID) + unsyncedMark, failures: w.failures}
	if err := w.finish(&u); err != nil {
		w.Abort()
		return fmt.Errorf("commit layer %s: %w", w.diffID, err)
	}
	w.over = true
	s := w.store
	s.mu.Lock()
	s.unsynced[w.diffID] = u
	s.mu.Unlock()
	s.unclaim(w.diffID)
	return nil
}

func (w *LayerWriter) finish(u *unsynced) error {
	opaque, err := linux.Lgetxattr(w.Dir, "trusted.overlay.opaque")
	if err != nil {
		return err
	}
	u.info.Opaque = opaque != nil
	if err := atomicfile.WriteJSON(filepath.Join(w.temp, "meta.json"), u.info); err != nil {
		return err
	}
	if err := fault.Hit("layer.commit.before-rename"); err != nil {
		return err
	}
	// What is there was given up by a sweep that could not discard it.
	if err := w.store.bin.Discard(u.path); err != nil {
		return err
	}
	return os.Rename(w.temp, u.path)
}
