package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-cri/berth/imageservice/reference"
	"github.com/berth-cri/berth/imageservice/registry"
	"github.com/berth-cri/berth/imageservice/store"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	crierrors "k8s.io/cri-api/pkg/errors"
)

// Options of New; Store is required, and Registry before the first pull.
type Options struct {
	Store  *store.Store
	Logger *slog.Logger // nil: slog.Default()
	Settings
	ProgressBytes int64 // 0: 64 KiB

	// Platform chooses from an index; nil: what this machine runs best.
	Platform platforms.MatchComparer
}

// Settings are what Configure can change. A pull keeps those that it began with.
type Settings struct {
	Registry *registry.Client

	// MaxConcurrentLayers is how many layers of one image are unpacked side by
	// side. 0: the number of CPUs, but at least 3 and at most 8.
	MaxConcurrentLayers int

	ProgressTimeout time.Duration // 0: never
}

// Puller runs pulls.
type Puller struct {
	mu      sync.Mutex
	opts    Options         // guarded by mu
	flights map[key]*flight // guarded by mu; those that can be joined
	running sync.WaitGroup
	closed  bool   // guarded by mu
	count   uint64 // guarded by mu; makes owners of holds different
}

// key is what makes two pulls one.
type key struct{ image, auth string }

// flight is one running pull and who waits for it.
type flight struct {
	job    *job
	cancel context.CancelCauseFunc
	done   chan struct{} // closed after img and err are set

	waiters int // guarded by Puller.mu

	img *store.Image
	err error
}

// New returns a Puller; Close ends its pulls.
func New(opts Options) *Puller {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.Platform == nil {
		opts.Platform = platforms.Default()
	}
	opts.ProgressBytes = cmp.Or(opts.ProgressBytes, 64<<10)
	p := &Puller{opts: opts, flights: map[key]*flight{}}
	p.Configure(opts.Settings)
	return p
}

// Configure makes the settings those of every pull that begins from now on.
func (p *Puller) Configure(s Settings) {
	s.MaxConcurrentLayers = cmp.Or(s.MaxConcurrentLayers, max(3, min(8, runtime.NumCPU())))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opts.Settings = s
}

// Close cancels what runs and waits for it.
func (p *Puller) Close() {
	p.mu.Lock()
	p.closed = true
	for _, f := range p.flights {
		f.cancel(errShutdown)
	}
	p.mu.Unlock()
	p.running.Wait()
}

var errShutdown = fmt.Errorf("the image service is shutting down: %w", errdefs.ErrUnavailable)

// Pull returns the image when it is in the store. The text of an error begins
// with "RegistryUnavailable" when that is what it is, as the kubelet expects.
func (p *Puller) Pull(ctx context.Context, ref reference.Reference, auth *registry.Auth) (*store.Image, error) {
	return p.PullSeen(ctx, ref, auth, nil)
}

// PullSeen is Pull for one who wants to see how it goes.
func (p *Puller) PullSeen(ctx context.Context, ref reference.Reference, auth *registry.Auth, joined func(View)) (*store.Image, error) {
	img, err := p.join(ctx, ref, auth, joined)
	if err != nil {
		err = fmt.Errorf("pull image %s: %w", ref, err)
		if errors.Is(err, crierrors.ErrRegistryUnavailable) {
			err = fmt.Errorf("%w: %w", crierrors.ErrRegistryUnavailable, err)
		}
		return nil, err
	}
	return img, nil
}

func (p *Puller) join(ctx context.Context, ref reference.Reference, auth *registry.Auth, joined func(View)) (*store.Image, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	k := key{ref.String(), auth.Key()}
	f, err := p.board(ctx, k, ref, auth)
	if err != nil {
		return nil, err
	}
	if joined != nil {
		joined(f.job)
	}
	select {
	case <-f.done:
		return f.img, f.err
	case <-ctx.Done():
	}
	if !p.leave(k, f, context.Cause(ctx)) {
		return nil, context.Cause(ctx)
	}
	// The last one out sees to it that nothing is left when it returns.
	<-f.done
	if f.err == nil {
		return f.img, nil // it was through already
	}
	return nil, context.Cause(ctx)
}

// board joins the flight of a key or starts it.
func (p *Puller) board(ctx context.Context, k key, ref reference.Reference, auth *registry.Auth) (*flight, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errShutdown
	}
	if f := p.flights[k]; f != nil {
		f.waiters++
		return f, nil
	}
	// The pull goes on when its first caller leaves and others stay.
	run, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	p.count++
	f := &flight{
		job:     &job{opts: p.opts, ref: ref, auth: auth, owner: fmt.Sprintf("pull/%d", p.count), started: time.Now(), state: Resolving},
		cancel:  cancel,
		done:    make(chan struct{}),
		waiters: 1,
	}
	p.flights[k] = f
	p.running.Go(func() {
		defer cancel(nil)
		f.img, f.err = f.job.run(run, cancel)
		p.mu.Lock()
		p.land(k, f)
		p.mu.Unlock()
		close(f.done)
	})
	return f, nil
}

// leave reports whether the caller was the last one, and the pull is cancelled.
func (p *Puller) leave(k key, f *flight, why error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.waiters--; f.waiters > 0 {
		return false
	}
	p.land(k, f) // nobody joins what is being cancelled
	f.cancel(why)
	return true
}

// land takes a flight off the board; the caller holds mu.
func (p *Puller) land(k key, f *flight) {
	if p.flights[k] == f {
		delete(p.flights, k)
	}
}

// Pulls is a snapshot of what runs, the oldest first.
func (p *Puller) Pulls() []Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Progress, 0, len(p.flights))
	for _, f := range p.flights {
		pr := f.job.Progress()
		pr.Waiters = f.waiters
		out = append(out, pr)
	}
	slices.SortFunc(out, func(a, b Progress) int {
		return cmp.Or(a.Started.Compare(b.Started), strings.Compare(a.Image, b.Image))
	})
	return out
}
