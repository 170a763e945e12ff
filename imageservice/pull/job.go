package pull

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/berth-cri/berth/imageservice/layer"
	"github.com/berth-cri/berth/imageservice/reference"
	"github.com/berth-cri/berth/imageservice/registry"
	"github.com/berth-cri/berth/imageservice/store"
	"github.com/berth-cri/berth/telemetry"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// job is one pull from beginning to end.
type job struct {
	opts    Options
	ref     reference.Reference
	auth    *registry.Auth
	owner   string // of its holds in the store
	started time.Time
	session *registry.Session // set once, under mu, by the goroutine that runs
	counters

	mu     sync.Mutex
	state  State        // guarded by mu
	layers int          // guarded by mu
	size   int64        // guarded by mu
	counts []layerCount // the slice, not what it holds, is guarded by mu
}

// content is what the layers of an image are unpacked by.
type content struct {
	manifest []byte
	parsed   *ocispec.Manifest
	config   []byte
	image    ocispec.Image
}

func (j *job) Progress() Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Progress{
		Image: j.ref.String(), State: j.state, Started: j.started, Layers: j.layers, LayersDone: int(j.done.Load()),
		Size: j.size, Downloaded: j.downloaded.Load(), Unpacked: j.unpacked.Load(),
	}
}

// move is a step done.
func (j *job) move(e Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	to, err := j.state.Next(e)
	if err != nil {
		return err
	}
	j.state = to
	j.steps.Add(1)
	return nil
}

// run pulls under the eye of watch. What was acquired is given back in any case.
func (j *job) run(ctx context.Context, cancel context.CancelCauseFunc) (img *store.Image, err error) {
	if j.opts.ProgressTimeout > 0 {
		watching, stop := context.WithCancel(ctx)
		defer stop()
		go j.watch(watching, cancel)
	}
	defer j.opts.Store.Release(j.owner)
	defer func() {
		if err != nil {
			// Everything fails when the pull is cancelled: the reason is the news.
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			err = fmt.Errorf("%s: %w", j.Progress().State, err)
			_ = j.move(Fail)
		}
		j.report(ctx, img, err)
	}()
	return j.pull(ctx)
}

func (j *job) pull(ctx context.Context) (*store.Image, error) {
	telemetry.Tag(ctx, "image", j.ref.String())
	session, err := j.opts.Registry.Open(j.ref, j.auth)
	if err != nil {
		return nil, err
	}
	j.mu.Lock()
	j.session = session
	j.mu.Unlock()
	within, timed := telemetry.ImagePull.Begin(ctx, "resolve")
	desc, body, err := j.session.Resolve(within, func(d digest.Digest) bool { return j.known(d) != nil }, j.listed())
	timed.End(err)
	if err != nil {
		return nil, err
	}
	if body == nil {
		if img := j.known(desc.Digest); img != nil {
			return img, j.move(Known)
		}
	}
	if err := j.move(Resolved); err != nil {
		return nil, err
	}
	within, timed = telemetry.ImagePull.Begin(ctx, "read")
	c, err := j.read(within, desc, body, 0)
	timed.End(err)
	if err != nil {
		return nil, err
	}
	if err := j.move(Read); err != nil {
		return nil, err
	}
	// Held before they are looked for: a sweep must not take them in between.
	j.opts.Store.Hold(j.owner, c.image.RootFS.DiffIDs)
	within, timed = telemetry.ImagePull.Begin(ctx, "layers")
	err = j.unpack(within, c)
	timed.End(err)
	if err != nil {
		return nil, err
	}
	if err := j.move(Unpacked); err != nil {
		return nil, err
	}
	if ctx.Err() != nil { // the last moment to leave nothing
		return nil, context.Cause(ctx)
	}
	img := store.Image{RepoDigests: []string{j.ref.RepoDigest(desc.Digest)}}
	if tag := j.ref.RepoTag(); tag != "" {
		img.RepoTags = []string{tag}
	}
	within, timed = telemetry.ImagePull.Begin(ctx, "record")
	recorded, err := j.opts.Store.Commit(within, img, c.manifest, c.config)
	timed.End(err)
	if err != nil {
		return nil, err
	}
	return recorded, j.move(Recorded)
}

// listed reports whether the name is here already, so that its digest alone
// may be enough to ask for.
func (j *job) listed() bool {
	_, err := j.opts.Store.Lookup(j.ref.String())
	return err == nil
}

// known is the image that has the digest, and the tag as well when one is pulled.
func (j *job) known(d digest.Digest) *store.Image {
	img, err := j.opts.Store.Lookup(j.ref.RepoDigest(d))
	if err != nil || j.ref.Tag != "" && !slices.Contains(img.RepoTags, j.ref.RepoTag()) {
		return nil
	}
	return img
}

// read follows indexes down to an image for this machine.
func (j *job) read(ctx context.Context, desc ocispec.Descriptor, body []byte, depth int) (*content, error) {
	const deepest = 3
	if depth > deepest {
		return nil, fmt.Errorf("an index within an index within an index: %w", errdefs.ErrInvalidArgument)
	}
	if body == nil {
		found, b, err := j.session.Manifest(ctx, desc.Digest)
		if err != nil {
			return nil, err
		}
		desc.MediaType, body = found.MediaType, b
		j.steps.Add(1)
	}
	idx, m, err := parseManifest(desc.MediaType, body)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if m != nil {
		return j.readConfig(ctx, m, body)
	}
	entries, err := choose(idx, j.opts.Platform)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", desc.Digest, err)
	}
	var have []string
	for _, e := range entries {
		c, err := j.read(ctx, ocispec.Descriptor{Digest: e.Digest, MediaType: e.MediaType}, nil, depth+1)
		if err != nil {
			return nil, err
		}
		if e.Platform != nil || j.opts.Platform.Match(c.image.Platform) {
			return c, nil
		}
		have = append(have, c.image.OS+"/"+c.image.Architecture)
	}
	return nil, fmt.Errorf("index %s: %w", desc.Digest, noPlatform(have))
}

func (j *job) readConfig(ctx context.Context, m *ocispec.Manifest, manifest []byte) (*content, error) {
	config, err := j.session.Config(ctx, m.Config.Digest)
	if err != nil {
		return nil, err
	}
	j.steps.Add(1)
	image, err := parseConfig(config, m)
	if err != nil {
		return nil, err
	}
	return &content{manifest: manifest, parsed: m, config: config, image: image}, nil
}

// unpack brings all layers into the store, several at a time.
func (j *job) unpack(ctx context.Context, c *content) error {
	counts := make([]layerCount, len(c.parsed.Layers))
	j.mu.Lock()
	j.layers, j.counts = len(c.parsed.Layers), counts
	for i, l := range c.parsed.Layers {
		j.size += l.Size
		counts[i].digest, counts[i].size = l.Digest, l.Size
	}
	j.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(j.opts.MaxConcurrentLayers)
	seen := map[digest.Digest]bool{}
	for i, desc := range c.parsed.Layers {
		diffID := c.image.RootFS.DiffIDs[i]
		if seen[diffID] { // the empty layer of some builders comes many times
			counts[i].done.Store(true)
			j.done.Add(1)
			continue
		}
		seen[diffID] = true
		g.Go(func() error {
			ctx, span := telemetry.Begin(ctx, "layer")
			span.Set("digest", desc.Digest.String())
			err := j.layer(ctx, desc, diffID, &counts[i])
			span.End(err)
			if err != nil {
				return fmt.Errorf("layer %d of %d: %w", i+1, len(c.parsed.Layers), err)
			}
			counts[i].done.Store(true)
			j.done.Add(1)
			j.steps.Add(1)
			return nil
		})
	}
	return g.Wait()
}

// layer brings one layer into the store, unless it is there. What an endpoint
// sent wrongly is asked of the next one.
func (j *job) layer(ctx context.Context, desc ocispec.Descriptor, diffID digest.Digest, count *layerCount) error {
	for {
		j.waiting.Add(1)
		w, err := j.opts.Store.BeginLayer(ctx, diffID)
		j.waiting.Add(-1)
		if errdefs.IsAlreadyExists(err) {
			count.here.Store(true)
			return nil
		}
		if err != nil {
			return err
		}
		blob := j.session.Blob(ctx, desc)
		res, err := layer.Unpack(ctx, blob, w.Dir, layer.Options{
			MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, DiffID: diffID, Progress: j.layerCounter(count),
		})
		blob.Close()
		if err == nil {
			return w.Commit(ctx, store.Layer{Size: res.Size, Entries: res.Entries, Implied: res.Implied})
		}
		w.Abort()
		if ctx.Err() != nil || !errdefs.IsDataLoss(err) || !blob.Reject() {
			return err
		}
		j.opts.Logger.Warn("layer is asked of the next endpoint", "image", j.ref.String(), "layer", desc.Digest, "error", err)
	}
}

func (j *job) report(ctx context.Context, img *store.Image, err error) {
	telemetry.PullEnded(time.Since(j.started), err)
	p := j.Progress()
	attrs := []any{"image", p.Image, "took", time.Since(p.Started).Round(time.Millisecond), "layers", p.Layers, "downloaded", p.Downloaded, "unpacked", p.Unpacked}
	if err != nil {
		j.opts.Logger.InfoContext(ctx, "image is not pulled", append(attrs, "error", err)...)
	} else {
		j.opts.Logger.InfoContext(ctx, "image is pulled", append(attrs, "id", img.ID)...)
	}
	if j.session != nil && j.opts.Logger.Enabled(context.Background(), slog.LevelDebug) {
		for _, a := range j.session.Trace() {
			j.opts.Logger.Debug("registry request", "image", p.Image, "request", a.Request, "endpoint", a.Endpoint, "credential", a.Credential, "answer", a.Answer, "took", a.Took)
		}
	}
}
