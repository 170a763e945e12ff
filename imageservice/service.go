package imageservice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
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
	Root string // of the node's images, /var/lib/berth
	Settings
	ProgressBytes int64 // that count as progress within ProgressTimeout; 0: 64 KiB

	Bin    *trash.Bin   // on the file system of Root; nil: one of its own
	Logger *slog.Logger // nil: slog.Default()
}

// Settings are what Prepare can change at any time. A pull keeps those that it
// began with.
type Settings struct {
	HostsDir string // certs.d with hosts.toml files; empty: every registry by its default

	MaxConcurrentLayers int           // of one image; 0: by the number of CPUs
	ProgressTimeout     time.Duration // a pull that gets nowhere for so long ends; 0: never

	Pinned []string // names or patterns of images that stay
}

// Service is the images of a node.
type Service struct {
	store  *store.Store
	puller *pull.Puller
	pins   atomic.Pointer[pins]
	log    *slog.Logger
	wake   chan struct{} // there may be something to sweep

	sweptAt, sweptBytes atomic.Int64 // the last time, in seconds since the epoch; all that was ever swept

	registry atomic.Pointer[client]
}

// Auth is the AuthConfig of the CRI.
type Auth = registry.Auth

// PullRequest says what to pull and as whom; Auth may be nil.
type PullRequest struct {
	Image string
	Auth  *Auth
	// Joined is called once with the pull, which may be another caller's that
	// is under way. It must not wait.
	Joined func(pull.View)
}

// Open opens the store. Close it after use.
func Open(o Options) (*Service, error) {
	if o.Root == "" {
		return nil, fmt.Errorf("image service: no root directory: %w", errdefs.ErrInvalidArgument)
	}
	if o.ProgressBytes < 0 {
		return nil, fmt.Errorf("image service: a negative limit: %w", errdefs.ErrInvalidArgument)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	st, err := store.Open(o.Root, store.Options{Trash: o.Bin, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	s := &Service{store: st, log: o.Logger, wake: make(chan struct{}, 1)}
	s.puller = pull.New(pull.Options{Store: st, Logger: o.Logger, ProgressBytes: o.ProgressBytes})
	use, err := s.Prepare(o.Settings)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	use()
	return s, nil
}

// client is the registries' and what it was made of.
type client struct {
	*registry.Client
	options registry.Options
}

// Prepare checks other settings. Nothing has changed before use is called, which
// cannot fail.
func (s *Service) Prepare(set Settings) (use func(), err error) {
	if set.MaxConcurrentLayers < 0 || set.ProgressTimeout < 0 {
		return nil, fmt.Errorf("image service: a negative limit: %w", errdefs.ErrInvalidArgument)
	}
	pins, err := parsePins(set.Pinned)
	if err != nil {
		return nil, err
	}
	// A dead connection must be noticed, and tried anew, before the whole pull
	// is given up.
	stall := time.Minute
	if set.ProgressTimeout > 0 {
		stall = min(stall, set.ProgressTimeout/4)
	}
	return func() {
		s.pins.Store(&pins)
		now, old := registry.Options{HostsDir: set.HostsDir, Stall: stall}, s.registry.Load()
		c := old
		if old == nil || old.options != now {
			c = &client{registry.New(now), now}
			s.registry.Store(c)
		}
		s.puller.Configure(pull.Settings{
			Registry: c.Client, MaxConcurrentLayers: set.MaxConcurrentLayers, ProgressTimeout: set.ProgressTimeout,
		})
		if old != nil && old != c {
			old.Close() // pulls under way go on, only idle connections end
		}
	}, nil
}

// Close cancels running pulls and waits until they have cleaned up.
func (s *Service) Close() error {
	s.puller.Close()
	s.registry.Load().Close()
	return s.store.Close()
}

// CancelPulls ends the pulls that run, and refuses further ones: the service is
// about to be closed, and who waits for a pull shall not wait for its end.
func (s *Service) CancelPulls() { s.puller.Close() }

// Pull brings an image into the store and returns its id. The registry is
// asked in any case, so that credentials are checked for an image that is here;
// what is here is not loaded again.
func (s *Service) Pull(ctx context.Context, r PullRequest) (id string, err error) {
	ref, err := reference.Parse(r.Image)
	if err == nil && strings.HasPrefix(r.Image, "sha256:") {
		err = fmt.Errorf("%q is an id, which no registry knows: %w", r.Image, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return "", fmt.Errorf("pull image: %w", err)
	}
	img, err := s.puller.PullSeen(ctx, ref, r.Auth, r.Joined)
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
	return s.pins.Load().mark(img), nil
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
func (s *Service) List() []*store.Image { return s.pins.Load().markAll(s.store.Images()) }

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

// Layers are the layers of the store.
func (s *Service) Layers() map[digest.Digest]store.Layer { return s.store.Layers() }

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
	if err == nil {
		s.sweptAt.Store(time.Now().Unix())
	}
	s.sweptBytes.Add(max(swept.Bytes, 0))
	if swept != (store.Swept{}) {
		s.log.Info("image store is swept", "images", swept.Images, "layers", swept.Layers, "blobs", swept.Blobs, "temps", swept.Temps, "bytes", swept.Bytes)
	}
	return err
}

// Swept is when the last sweep ended, zero for never, and how many bytes all
// sweeps of this process took away.
func (s *Service) Swept() (at time.Time, bytes int64) {
	if sec := s.sweptAt.Load(); sec != 0 {
		at = time.Unix(sec, 0)
	}
	return at, s.sweptBytes.Load()
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
