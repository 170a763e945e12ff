package imageservice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"time"

	"github.com/berth-cri/berth/imageservice/pull"
	"github.com/berth-cri/berth/imageservice/reference"
	"github.com/berth-cri/berth/imageservice/registry"
	"github.com/berth-cri/berth/imageservice/store"
	"github.com/berth-cri/berth/trash"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Options of Open. Only Root is required.
type Options struct {
	Root     string // of the node's images, /var/lib/berth
	HostsDir string // certs.d with hosts.toml files; empty: every registry by its default

	MaxConcurrentLayers int           // of one image; 0: by the number of CPUs
	ProgressTimeout     time.Duration // a pull that gets nowhere for so long ends; 0: never
	ProgressBytes       int64         // that count as progress within it; 0: 64 KiB

	Pinned []string   // names or patterns of images that stay
	Bin    *trash.Bin // on the file system of Root; nil: one of its own

	Logger *slog.Logger // nil: slog.Default()
}

// Service is the images of a node.
type Service struct {
	store    *store.Store
	registry *registry.Client
	puller   *pull.Puller
	pins     pins
	log      *slog.Logger
	wake     chan struct{} // there may be something to sweep
}

// Auth is the AuthConfig of the CRI.
type Auth = registry.Auth

// PullRequest says what to pull and as whom; Auth may be nil.
type PullRequest struct {
	Image string
	Auth  *Auth
}

// Open opens the store. Close it after use.
func Open(o Options) (*Service, error) {
	if o.Root == "" {
		return nil, fmt.Errorf("image service: no root directory: %w", errdefs.ErrInvalidArgument)
	}
	if o.MaxConcurrentLayers < 0 || o.ProgressTimeout < 0 || o.ProgressBytes < 0 {
		return nil, fmt.Errorf("image service: a negative limit: %w", errdefs.ErrInvalidArgument)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	pins, err := parsePins(o.Pinned)
	if err != nil {
		return nil, err
	}
	st, err := store.Open(o.Root, store.Options{Trash: o.Bin, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	s := &Service{store: st, pins: pins, log: o.Logger, wake: make(chan struct{}, 1)}
	// A dead connection must be noticed, and tried anew, before the whole pull
	// is given up.
	stall := time.Minute
	if o.ProgressTimeout > 0 {
		stall = min(stall, o.ProgressTimeout/4)
	}
	s.registry = registry.New(registry.Options{HostsDir: o.HostsDir, Stall: stall})
	s.puller = pull.New(pull.Options{
		Store: st, Registry: s.registry, Logger: o.Logger, MaxConcurrentLayers: o.MaxConcurrentLayers,
		ProgressTimeout: o.ProgressTimeout, ProgressBytes: o.ProgressBytes,
	})
	return s, nil
}

// Close cancels running pulls and waits until they have cleaned up.
func (s *Service) Close() error {
	s.puller.Close()
	s.registry.Close()
	return s.store.Close()
}

// Pull brings an image into the store and returns its id. The registry is
// asked in any case, so that credentials are checked for an image that is here;
// what is here is not loaded again.
func (s *Service) Pull(ctx context.Context, r PullRequest) (id string, err error) {
	ref, err := reference.Parse(r.Image)
	if err != nil {
		return "", fmt.Errorf("pull image: %w", err)
	}
	img, err := s.puller.Pull(ctx, ref, r.Auth)
	if err != nil {
		// The layers that a failed pull got done help the next attempt, so they
		// wait for the next regular sweep, unless the disk is full.
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			s.sweepSoon()
		}
		return "", err
	}
	return img.ID, nil
}

// Pulls is a snapshot of the pulls that are running.
func (s *Service) Pulls() []pull.Progress { return s.puller.Pulls() }

// Lookup finds an image by name, id or prefix of an id; ErrNotFound.
func (s *Service) Lookup(nameOrID string) (*store.Image, error) {
	img, err := s.lookup(nameOrID)
	if err != nil {
		return nil, err
	}
	return s.pins.mark(img), nil
}

func (s *Service) lookup(nameOrID string) (*store.Image, error) {
	// "sha256:<hex>" is an id although it would be a name and tag as well.
	if !strings.HasPrefix(nameOrID, "sha256:") {
		if ref, err := reference.Parse(nameOrID); err == nil {
			if img, err := s.store.Lookup(ref.String()); err == nil {
				return img, nil
			}
		}
	}
	return s.store.Lookup(nameOrID)
}

// List returns all images by id. The slice is shared: it is to be read only.
func (s *Service) List() []*store.Image { return s.pins.markAll(s.store.Images()) }

// Remove takes an image away with all its names. One that is unknown gives
// ErrNotFound, a pinned one ErrFailedPrecondition.
func (s *Service) Remove(ctx context.Context, nameOrID string) error {
	img, err := s.Lookup(nameOrID)
	if err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	if img.Pinned {
		return fmt.Errorf("remove image %s (%v): it is pinned by the configuration: %w", nameOrID, img.RepoTags, errdefs.ErrFailedPrecondition)
	}
	if err := s.store.Remove(ctx, img.ID); err != nil {
		return err
	}
	s.sweepSoon()
	return nil
}

// FsUsage is what images take, and where.
func (s *Service) FsUsage() store.Usage { return s.store.Usage() }

// LayerDir is where a layer's tree is.
func (s *Service) LayerDir(diffID digest.Digest) string { return s.store.LayerDir(diffID) }

// LayerDirs are the lower directories of an overlay of the layers, topmost first.
func (s *Service) LayerDirs(diffIDs []digest.Digest) []string { return s.store.LayerDirs(diffIDs) }

// Hold keeps layers for an owner ("container/<id>") until Release.
func (s *Service) Hold(owner string, diffIDs []digest.Digest) { s.store.Hold(owner, diffIDs) }

// Release ends the holds of an owner.
func (s *Service) Release(owner string) {
	s.store.Release(owner)
	s.sweepSoon()
}

// HoldImage looks an image up and holds its layers, so that no sweep comes in
// between.
func (s *Service) HoldImage(owner, nameOrID string) (*store.Image, error) {
	img, err := s.Lookup(nameOrID)
	if err != nil {
		return nil, err
	}
	s.store.Hold(owner, img.Layers)
	if again, err := s.store.Lookup(img.ID); err != nil || again.ID != img.ID {
		s.store.Release(owner)
		return nil, fmt.Errorf("image %q was removed just now: %w", nameOrID, errdefs.ErrNotFound)
	}
	return img, nil
}

// Sweep removes layers and blobs that nothing refers to.
func (s *Service) Sweep(ctx context.Context) error {
	swept, err := s.store.Sweep(ctx)
	if swept != (store.Swept{}) {
		s.log.Info("image store is swept", "images", swept.Images, "layers", swept.Layers, "blobs", swept.Blobs, "temps", swept.Temps, "bytes", swept.Bytes)
	}
	return err
}

func (s *Service) sweepSoon() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// sweepEvery is how long the layers of a failed pull lie around at most.
const sweepEvery = 10 * time.Minute

// Run sweeps at once, after each removal and release, and every ten minutes,
// until the context ends. It is begun when all living containers hold their
// layers.
func (s *Service) Run(ctx context.Context) {
	regular := time.NewTicker(sweepEvery)
	defer regular.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && !errors.Is(err, ctx.Err()) {
			s.log.Error("image store is not swept", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-regular.C:
		}
	}
}
