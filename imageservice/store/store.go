package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/trash"
	"github.com/opencontainers/go-digest"
)

// Options of Open; the zero value is fine.
type Options struct {
	Trash  *trash.Bin   // on the file system of the root; nil: a bin of its own in <root>/trash
	Logger *slog.Logger // nil: slog.Default()
}

// Store is the image store of one root directory.
//
// Lock order: turn, then mu. mu is never held over disk access.
type Store struct {
	root string
	bin  *trash.Bin
	log  *slog.Logger
	sync *syncer
	born time.Time

	// turn is held by who writes records and blobs or collects garbage.
	turn chan struct{}

	now atomic.Pointer[index] // what readers see; replaced under mu

	mu       sync.Mutex
	images   map[string]*Image                     // guarded by mu; by id, ready or not
	layers   map[digest.Digest]Layer               // guarded by mu; whole layers
	unsynced map[digest.Digest]unsynced            // guarded by mu; unpacked, not durable layers
	busy     map[digest.Digest]chan struct{}       // guarded by mu; layers that one goroutine works on, closed when it is done
	holds    map[string]map[digest.Digest]struct{} // guarded by mu; by owner
}

// Open reads the store of a root directory, which is made when missing. Records
// and layers that are damaged are reported and left for the next pull to heal;
// they are never an error. One process at a time may have a root open.
func Open(root string, opts Options) (*Store, error) {
	s := &Store{
		root:     root,
		bin:      opts.Trash,
		log:      opts.Logger,
		born:     time.Now(),
		turn:     make(chan struct{}, 1),
		images:   map[string]*Image{},
		layers:   map[digest.Digest]Layer{},
		unsynced: map[digest.Digest]unsynced{},
		busy:     map[digest.Digest]chan struct{}{},
		holds:    map[string]map[digest.Digest]struct{}{},
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	// 0700: set-uid programs and devices of images are nobody's but the containers'.
	for _, dir := range []string{s.blobDir(), s.layersDir(), s.brokenDir(), s.tmpDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	if err := linux.SpreadDirs(s.tmpDir()); err != nil {
		s.log.Debug("new layers are not spread over the disk", "error", err) // not ext4
	}
	var err error
	if s.bin == nil {
		if s.bin, err = trash.Open(filepath.Join(root, "trash")); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	if s.sync, err = newSyncer(s.layersDir()); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	if _, err := s.discardTemps(); err != nil {
		s.log.Warn("unfinished layers stay in tmp until the next sweep", "error", err)
	}
	if err := errors.Join(s.loadLayers(), s.loadImages()); err != nil {
		s.sync.close()
		return nil, fmt.Errorf("open image store: %w", err)
	}
	s.mu.Lock()
	s.rebuild()
	s.mu.Unlock()
	s.reportUnready()
	return s, nil
}

// Close lets go of the root. Nothing needs saving.
func (s *Store) Close() error { return s.sync.close() }

func (s *Store) blobDir() string   { return filepath.Join(s.root, "blobs", "sha256") }
func (s *Store) layersDir() string { return filepath.Join(s.root, "layers", "sha256") }
func (s *Store) imagesDir() string { return filepath.Join(s.root, "images") }
func (s *Store) brokenDir() string { return filepath.Join(s.root, "images", "broken") }
func (s *Store) tmpDir() string    { return filepath.Join(s.root, "tmp") }

// write waits for the turn to write.
func (s *Store) write(ctx context.Context) (done func(), err error) {
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Sync makes everything written to the store so far durable. Callers at the
// same time share one syncfs.
func (s *Store) Sync(ctx context.Context) error { return s.sync.wait(ctx) }

// Usage is what the store takes of its file system.
type Usage struct {
	Mountpoint    string // a directory on the file system in question
	Bytes, Inodes uint64
}

// Usage adds up what was recorded when layers and images were committed.
func (s *Store) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := Usage{Mountpoint: s.root}
	add := func(l Layer) {
		u.Bytes += uint64(l.Size)
		u.Inodes += uint64(l.Entries) + 2 // its own directory and meta.json
	}
	for _, l := range s.layers {
		add(l)
	}
	for _, l := range s.unsynced {
		add(l.info)
	}
	for _, img := range s.images {
		u.Bytes += img.blobBytes
		u.Inodes += 3 // manifest, config, record
	}
	return u
}
