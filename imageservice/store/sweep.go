package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-cri/berth/fault"
	"github.com/opencontainers/go-digest"
)

// healTime is how long after the start an image with a damaged layer waits for
// the pull that heals it. Then it goes: nobody sees it, so nobody would ever
// remove it.
const healTime = time.Hour

// Hold keeps layers from being swept for as long as the owner lives, whether
// they are in the store yet or not: a pull holds what it will need before it
// looks, a container what it runs on. Holds of one owner add up.
func (s *Store) Hold(owner string, layers []digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.holds[owner]
	if set == nil {
		set = map[digest.Digest]struct{}{}
		s.holds[owner] = set
	}
	for _, l := range layers {
		set[l] = struct{}{}
	}
}

// Release ends all holds of an owner.
func (s *Store) Release(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.holds, owner)
}

func (s *Store) held(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heldLocked(d)
}

func (s *Store) heldLocked(d digest.Digest) bool {
	for _, set := range s.holds {
		if _, ok := set[d]; ok {
			return true
		}
	}
	return false
}

// Swept is what a sweep took away.
type Swept struct {
	Images, Layers, Blobs, Temps int
	Bytes                        int64 // of the layers that were whole
}

// Sweep takes away what no record and no hold names: layers, blobs, leftovers
// of writes that were interrupted, and what is in the trash. A name is free
// again as soon as its tree is renamed into the trash; the long work of
// deleting keeps nobody waiting but the caller.
func (s *Store) Sweep(ctx context.Context) (Swept, error) {
	var swept Swept
	done, err := s.write(ctx)
	if err != nil {
		return swept, fmt.Errorf("sweep: %w", err)
	}
	err = errors.Join(
		s.sweepUnready(&swept),
		s.sweepLayers(&swept),
		s.sweepBlobs(&swept),
		s.sweepTemps(&swept),
	)
	done()
	if err = errors.Join(err, s.bin.Sweep(ctx)); err != nil {
		return swept, fmt.Errorf("sweep: %w", err)
	}
	return swept, nil
}

func (s *Store) sweepUnready(swept *Swept) error {
	if time.Since(s.born) < healTime {
		return nil
	}
	s.mu.Lock()
	var ids []string
	for id, img := range s.images {
		if !s.ready(img) {
			ids = append(ids, id)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, id := range ids {
		s.log.Warn("image with a damaged layer is removed, no pull has healed it", "image", id)
		if err := s.removeRecord(id); err != nil {
			errs = append(errs, err)
			continue
		}
		swept.Images++
	}
	return errors.Join(errs...)
}

// sweepLayers goes through what is on the disk, so that damaged and replaced
// trees are found too.
func (s *Store) sweepLayers(swept *Swept) error {
	entries, err := os.ReadDir(s.layersDir())
	if err != nil {
		return err
	}
	used := s.usedLayers()
	var errs []error
	for _, e := range entries {
		encoded, mark, _ := strings.Cut(e.Name(), ".")
		d := digest.NewDigestFromEncoded(digest.SHA256, encoded)
		if checkDigest(d) != nil {
			continue // not ours
		}
		gone, mine := s.condemn(d, "."+mark, used)
		if !mine {
			continue
		}
		if err := s.discardLayer(e.Name()); err != nil {
			errs = append(errs, err)
		} else {
			swept.Layers++
			swept.Bytes += gone.Size
		}
		s.unclaim(d)
	}
	return errors.Join(errs...)
}

func (s *Store) discardLayer(name string) error {
	if err := fault.Hit("sweep.before-layer"); err != nil {
		return err
	}
	if err := s.bin.Discard(filepath.Join(s.layersDir(), name)); err != nil {
		return err
	}
	return fault.Hit("sweep.after-layer")
}

// usedLayers are those of all records. The caller holds turn, so no record
// comes meanwhile.
func (s *Store) usedLayers() map[digest.Digest]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[digest.Digest]bool{}
	for _, img := range s.images {
		for _, l := range img.Layers {
			used[l] = true
		}
	}
	return used
}

// condemn claims a layer, or what has its name and a mark, when it may go, and
// takes it out of the tables: from now on a pull that wants it waits until it
// is gone and unpacks it anew.
func (s *Store) condemn(d digest.Digest, mark string, used map[digest.Digest]bool) (gone Layer, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heldLocked(d) || s.busy[d] != nil {
		return Layer{}, false
	}
	switch {
	case strings.HasPrefix(mark, replacedMark):
	case mark == unsyncedMark:
		u, known := s.unsynced[d]
		if known && used[d] {
			return Layer{}, false
		}
		gone = u.info
		delete(s.unsynced, d)
	default:
		l, whole := s.layers[d]
		if whole && used[d] {
			return Layer{}, false
		}
		gone = l
		delete(s.layers, d)
	}
	s.busy[d] = make(chan struct{})
	return gone, true
}

// sweepBlobs removes blobs of no record. The caller holds turn, so none is on
// its way to get one.
func (s *Store) sweepBlobs(swept *Swept) error {
	s.mu.Lock()
	used := map[string]bool{}
	for _, img := range s.images {
		used[digest.Digest(img.ID).Encoded()] = true
		used[img.Manifest.Encoded()] = true
	}
	s.mu.Unlock()
	entries, err := os.ReadDir(s.blobDir())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if used[e.Name()] {
			continue
		}
		err := fault.Hit("sweep.before-blob")
		if err == nil {
			err = os.Remove(filepath.Join(s.blobDir(), e.Name()))
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		swept.Blobs++
	}
	return errors.Join(errs...)
}

// sweepTemps removes what interrupted writes left: temporary files of records
// (the caller holds turn, so none is being written) and layers nobody unpacks.
func (s *Store) sweepTemps(swept *Swept) error {
	left, err := filepath.Glob(filepath.Join(s.imagesDir(), ".tmp-*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range left {
		errs = append(errs, os.Remove(path))
		swept.Temps++
	}
	n, err := s.discardTemps()
	swept.Temps += n
	return errors.Join(append(errs, err)...)
}

// discardTemps removes the unfinished layers that nobody works on.
func (s *Store) discardTemps() (n int, err error) {
	entries, err := os.ReadDir(s.tmpDir())
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, e := range entries {
		name, ours := strings.CutPrefix(e.Name(), tempPrefix)
		encoded, _, _ := strings.Cut(name, ".")
		d := digest.NewDigestFromEncoded(digest.SHA256, encoded)
		if !ours || checkDigest(d) != nil || !s.tryClaim(d) {
			continue
		}
		if err := s.bin.Discard(filepath.Join(s.tmpDir(), e.Name())); err != nil {
			errs = append(errs, err)
		} else {
			n++
		}
		s.unclaim(d)
	}
	return n, errors.Join(errs...)
}
