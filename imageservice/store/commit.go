package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/fault"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Commit records an image whose layers are all in the store, and returns it
// as it is listed from now on. Layers that are only unpacked are made durable
// first, by one syncfs for all of them when they are large. Names are merged into an image of the same id
// and taken away from any other; an image that loses its last name stays
// listed by its id. ID, Manifest and Layers may be left empty: they are the
// digests of the config and of the manifest, and what the config says.
//
// The caller holds the layers (Hold) until Commit has returned.
func (s *Store) Commit(ctx context.Context, img Image, manifest, config []byte) (*Image, error) {
	next, err := img.prepare(manifest, config)
	if err != nil {
		return nil, fmt.Errorf("commit image: %w", err)
	}
	if err := s.settle(ctx, next.Layers); err != nil {
		return nil, fmt.Errorf("commit image %s: %w", next.ID, err)
	}
	done, err := s.write(ctx)
	if err != nil {
		return nil, fmt.Errorf("commit image %s: %w", next.ID, err)
	}
	defer done()
	if err := s.commit(next, manifest, config); err != nil {
		return nil, fmt.Errorf("commit image %s: %w", next.ID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.images[next.ID], nil
}

// prepare fills in and checks what the caller gave.
func (i Image) prepare(manifest, config []byte) (*Image, error) {
	if i.ID == "" {
		i.ID = digest.FromBytes(config).String()
	}
	if i.Manifest == "" {
		i.Manifest = digest.FromBytes(manifest)
	}
	if i.Layers == nil {
		var c ocispec.Image
		if err := json.Unmarshal(config, &c); err != nil {
			return nil, fmt.Errorf("parse config: %v: %w", err, errdefs.ErrInvalidArgument)
		}
		i.Layers = c.RootFS.DiffIDs
	}
	return i.complete(manifest, config)
}

func (s *Store) commit(next *Image, manifest, config []byte) error {
	s.mu.Lock()
	for _, l := range next.Layers {
		if _, whole := s.layers[l]; !whole {
			s.mu.Unlock()
			return fmt.Errorf("layer %s is not in the store: %w", l, errdefs.ErrFailedPrecondition)
		}
	}
	losers := s.adopt(next)
	s.mu.Unlock()

	if err := s.inherit(next.Layers); err != nil {
		return err
	}
	if err := errors.Join(s.writeBlob(config), s.writeBlob(manifest)); err != nil {
		return err
	}
	if err := fault.Hit("image.commit.before-record"); err != nil {
		return err
	}
	if err := s.writeRecord(next); err != nil {
		return err
	}
	if err := fault.Hit("image.commit.after-record"); err != nil {
		s.log.Error("image is committed all the same", "error", err)
	}
	// From here on the image is committed; nothing that follows can undo it. The
	// losers come second: in a crash between, the tag has two images and Open
	// gives it to the later one. The other way round it would have none.
	for _, l := range losers {
		err := fault.Hit("image.commit.before-loser")
		if err == nil {
			err = s.writeRecord(l)
		}
		if err != nil {
			s.log.Error("the record on disk keeps a name that has moved, until the next start", "image", l.ID, "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, img := range append(losers, next) {
		s.images[img.ID] = img
	}
	s.rebuild()
	return nil
}

// adopt merges what is known of the image into next, and returns the images
// that lose names to it, without them. The caller holds turn and mu.
func (s *Store) adopt(next *Image) (losers []*Image) {
	next.PulledAt = time.Now().UTC()
	if old := s.images[next.ID]; old != nil {
		next.RepoTags = append(slices.Clone(next.RepoTags), old.RepoTags...)
		next.RepoDigests = append(slices.Clone(next.RepoDigests), old.RepoDigests...)
		next.Pinned = next.Pinned || old.Pinned
	}
	next.RepoTags = slices.Compact(slices.Sorted(slices.Values(next.RepoTags)))
	next.RepoDigests = slices.Compact(slices.Sorted(slices.Values(next.RepoDigests)))

	names := map[string]bool{}
	for _, name := range next.Names() {
		names[name] = true
	}
	for _, other := range s.images {
		if other.ID == next.ID {
			continue
		}
		if less := other.without(func(name string) bool { return names[name] }); less != other {
			losers = append(losers, less)
			if !next.PulledAt.After(other.PulledAt) { // the clock went back
				next.PulledAt = other.PulledAt.Add(1)
			}
		}
	}
	return losers
}

// Untag takes one name away from the image that has it; the image stays.
// Nobody having it is no error.
func (s *Store) Untag(ctx context.Context, name string) error {
	done, err := s.write(ctx)
	if err != nil {
		return fmt.Errorf("untag %s: %w", name, err)
	}
	defer done()
	s.mu.Lock()
	var less *Image
	for _, img := range s.images {
		if c := img.without(func(n string) bool { return n == name }); c != img {
			less = c
		}
	}
	s.mu.Unlock()
	if less == nil {
		return nil
	}
	if err := s.writeRecord(less); err != nil {
		return fmt.Errorf("untag %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[less.ID] = less
	s.rebuild()
	return nil
}

// Remove takes an image away with all its names. Its layers are left for
// Sweep. An image that is not there (any more) is no error.
func (s *Store) Remove(ctx context.Context, id string) error {
	if err := checkDigest(digest.Digest(id)); err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	done, err := s.write(ctx)
	if err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	defer done()
	if err := s.removeRecord(id); err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	return nil
}

// removeRecord deletes an image's record; the caller holds turn.
func (s *Store) removeRecord(id string) error {
	err := os.Remove(s.recordPath(id))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = fault.Hit("image.remove.after-record")
	}
	if err == nil {
		err = atomicfile.SyncDir(s.imagesDir())
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.images, id)
	s.rebuild()
	return nil
}
