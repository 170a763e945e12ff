package pull

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/berth-cri/berth/imageservice/registry"
	"github.com/berth-cri/berth/telemetry"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Progress is how far a pull is.
type Progress struct {
	Image              string
	State              State
	Started            time.Time
	Waiters            int   // callers that wait for it
	Layers, LayersDone int   // of the image, once its manifest is read
	Size               int64 // bytes of the layers as they are transferred
	Downloaded         int64 // bytes of layers that came over the network
	Unpacked           int64 // bytes of the tars in them
}

// counters are written by the goroutines of a pull.
type counters struct {
	downloaded, unpacked, steps, waiting atomic.Int64
	done                                 atomic.Int64 // layers
}

// layerCounter adds the running totals of one layer to those of the pull.
func (c *counters) layerCounter(l *layerCount) func(downloaded, unpacked int64) {
	var d, u int64
	return func(downloaded, unpacked int64) {
		c.downloaded.Add(downloaded - d)
		c.unpacked.Add(unpacked - u)
		telemetry.PulledBytes.Add(float64(downloaded - d))
		telemetry.UnpackedBytes.Add(float64(unpacked - u))
		l.downloaded.Store(downloaded)
		d, u = downloaded, unpacked
	}
}

// View shows a pull, during it and after its end.
type View interface {
	Progress() Progress
	LayerProgress() []LayerProgress
	// Trace is every request to a registry until now.
	Trace() []registry.Attempt
}

// LayerProgress is how far one layer is.
type LayerProgress struct {
	Digest           digest.Digest // of the blob
	Size, Downloaded int64
	Done             bool
	Here             bool // it was in the store
}

// layerCount is written by the goroutines of a layer.
type layerCount struct {
	digest     digest.Digest
	size       int64
	downloaded atomic.Int64
	done, here atomic.Bool
}

// LayerProgress is empty until the manifest is read.
func (j *job) LayerProgress() []LayerProgress {
	j.mu.Lock()
	counts := j.counts
	j.mu.Unlock()
	all := make([]LayerProgress, len(counts))
	for i := range counts {
		c := &counts[i]
		all[i] = LayerProgress{Digest: c.digest, Size: c.size, Downloaded: c.downloaded.Load(), Done: c.done.Load(), Here: c.here.Load()}
	}
	return all
}

func (j *job) Trace() []registry.Attempt {
	j.mu.Lock()
	s := j.session
	j.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.Trace()
}

// watch cancels the pull when it gets nowhere. A step that is done counts as
// enough progress by itself.
func (j *job) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	const looks = 10 // per timeout
	tick := time.NewTicker(max(j.opts.ProgressTimeout/looks, time.Millisecond))
	defer tick.Stop()
	var bytes, steps int64
	since := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		b, s := j.downloaded.Load()+j.unpacked.Load(), j.steps.Load()
		if b-bytes >= j.opts.ProgressBytes || s != steps || j.waiting.Load() > 0 {
			bytes, steps, since = b, s, time.Now()
		} else if time.Since(since) > j.opts.ProgressTimeout {
			p := j.Progress()
			cancel(fmt.Errorf("no progress for %s while %s: %d of %d bytes downloaded, %d unpacked, %d of %d layers done: %w",
				j.opts.ProgressTimeout, p.State, p.Downloaded, p.Size, p.Unpacked, p.LayersDone, p.Layers, errdefs.ErrUnavailable))
			return
		}
	}
}
