package layer

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Options say what the blob has to be, and how far it may go.
type Options struct {
	// MediaType, when set, is refused unless it is that of a layer. How the
	// blob is compressed is told by its first bytes: registries hold layers
	// whose media type says gzip and whose bytes are zstd.
	MediaType string
	Digest    digest.Digest // of the blob as it is transferred; empty: not checked
	Size      int64         // of the blob as it is transferred; 0: not checked
	DiffID    digest.Digest // of the tar in it; empty: not checked

	// Progress, when set, gets the running totals: bytes of the blob read and
	// bytes of the tar unpacked. It is called from several goroutines, one at
	// a time, for every chunk (256 KiB).
	Progress func(downloaded, unpacked int64)

	Limits Limits // the zero value means DefaultLimits
}

// Limits bound what a blob may cost; a zero field takes its default. Beyond
// them, archive/tar refuses a header (PAX records, long names) over 1 MiB.
type Limits struct {
	Size    int64 // bytes of the tar, and of all files in it with their holes
	Entries int   // entries of the tar
	Path    int   // bytes in a path, at most PATH_MAX
	Xattrs  int   // bytes of all extended attributes of an entry
}

// DefaultLimits are above any layer seen in the wild.
var DefaultLimits = Limits{Size: 256 << 30, Entries: 8 << 20, Path: unix.PathMax, Xattrs: 256 << 10}

func (l Limits) withDefaults() Limits {
	if l.Size == 0 {
		l.Size = DefaultLimits.Size
	}
	if l.Entries == 0 {
		l.Entries = DefaultLimits.Entries
	}
	if l.Path == 0 {
		l.Path = DefaultLimits.Path
	}
	if l.Xattrs == 0 {
		l.Xattrs = DefaultLimits.Xattrs
	}
	return l
}

// Result describes an unpacked layer.
type Result struct {
	Digest     digest.Digest // of the blob
	DiffID     digest.Digest // of the tar
	Compressed int64         // bytes of the blob
	Size       int64         // bytes the tree takes on a disk with 4 KiB blocks, holes not counted
	Entries    int           // inodes of the tree

	// Implied are the directories that have no entry of their own (paths
	// relative to the root of the layer, sorted): mode, owner and times of
	// such a directory were not the layer's to say.
	Implied []string
}

// Unpack reads a layer's blob from r to its end and unpacks it into dir, which
// exists and is empty. A read of r in flight must fail when ctx ends; when r
// is an io.Closer, Unpack closes it to that end, at an error and at
// cancellation only.
//
// Kinds of errors: ErrDataLoss when the bytes are not what was asked for,
// ErrInvalidArgument for an archive that no layer may be, ErrNotImplemented
// for a compression that is not supported, ErrResourceExhausted for limits
// and a full disk. Errors of r come back as they are, wrapped.
func Unpack(ctx context.Context, r io.Reader, dir string, opts Options) (Result, error) {
	opts.Limits = opts.Limits.withDefaults()
	if err := opts.validate(); err != nil {
		return Result{}, fmt.Errorf("unpack layer: %w", err)
	}
	res, err := run(ctx, r, dir, opts)
	if err != nil {
		return Result{}, fmt.Errorf("unpack layer: %w", err)
	}
	if err := opts.verify(res); err != nil {
		return Result{}, fmt.Errorf("unpack layer: %w", err)
	}
	return res, nil
}

// run is the pipeline: r -> fetch (hash) -> inflate -> sum (hash) -> untar,
// each in a goroutine of its own.
func run(parent context.Context, r io.Reader, dir string, opts Options) (Result, error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	if c, ok := r.(io.Closer); ok {
		stop := context.AfterFunc(ctx, func() { c.Close() })
		defer stop()
	}
	t, err := openTree(dir)
	if err != nil {
		return Result{}, err
	}
	defer t.close()

	var (
		wg                = new(sync.WaitGroup)
		blob, raw, hashed = newPipe(ctx), newPipe(ctx), newPipe(ctx)
		count             = &counter{report: opts.Progress}
		res               Result
	)
	stage := func(out *pipe, f func() error) {
		wg.Go(func() {
			err := guard(f)
			out.close(err)
			if err != nil {
				cancel(err) // the first error is the cause, the rest are consequences
			}
		})
	}
	stage(blob, func() (err error) { res.Digest, err = fetch(blob, r, opts, count); return err })
	stage(raw, func() error { return inflate(raw, blob) })
	stage(hashed, func() (err error) { res.DiffID, err = sum(hashed, raw, opts, count); return err })

	u := untar{tree: t, limits: opts.Limits, read: hashed}
	if err := guard(u.run); err != nil {
		cancel(err)
	}
	wg.Wait()
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	res.Compressed = count.downloaded.Load()
	res.Size, res.Entries, res.Implied = u.size, u.inodes, u.implied
	return res, nil
}

// guard turns a panic into an error: a decompressor that stumbles over hostile
// bytes must not take the daemon with it.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s: %w", p, debug.Stack(), errdefs.ErrInternal)
		}
	}()
	return f()
}

// counter holds the totals of one Unpack.
type counter struct {
	downloaded, unpacked atomic.Int64
	mu                   sync.Mutex // one report at a time
	report               func(downloaded, unpacked int64)
}

func (c *counter) add(downloaded, unpacked int) {
	c.downloaded.Add(int64(downloaded))
	c.unpacked.Add(int64(unpacked))
	if c.report != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.report(c.downloaded.Load(), c.unpacked.Load())
	}
}

func (o Options) validate() error {
	if o.MediaType != "" && !layerType(o.MediaType) {
		return fmt.Errorf("media type %q is not that of a layer: %w", o.MediaType, errdefs.ErrNotImplemented)
	}
	for _, d := range []digest.Digest{o.Digest, o.DiffID} {
		if d == "" {
			continue
		}
		if err := d.Validate(); err != nil {
			return fmt.Errorf("digest %q: %v: %w", d, err, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

func (o Options) verify(r Result) error {
	if o.Size != 0 && r.Compressed != o.Size {
		return fmt.Errorf("the blob has %d bytes, want %d: %w", r.Compressed, o.Size, errdefs.ErrDataLoss)
	}
	if o.Digest != "" && r.Digest != o.Digest {
		return fmt.Errorf("the blob's digest is %s, want %s: %w", r.Digest, o.Digest, errdefs.ErrDataLoss)
	}
	if o.DiffID != "" && r.DiffID != o.DiffID {
		return fmt.Errorf("the layer's diff id is %s, want %s: %w", r.DiffID, o.DiffID, errdefs.ErrDataLoss)
	}
	return nil
}

// algorithm is the one of the wanted digest, so that it can be compared.
func algorithm(d digest.Digest) digest.Algorithm {
	if d == "" {
		return digest.Canonical
	}
	return d.Algorithm()
}

// fetch reads the blob and hashes it. Progress is told for every read, since a
// chunk can take minutes on a slow line.
func fetch(out *pipe, r io.Reader, opts Options, count *counter) (digest.Digest, error) {
	hash := algorithm(opts.Digest).Digester()
	err := out.copy(r, func(b []byte) error {
		hash.Hash().Write(b)
		count.add(len(b), 0)
		if opts.Size != 0 && count.downloaded.Load() > opts.Size {
			return fmt.Errorf("more than the %d bytes it should have: %w", opts.Size, errdefs.ErrDataLoss)
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read blob: %w", err)
	}
	return hash.Digest(), nil
}

// sum hashes the tar on its way to untar.
func sum(out, in *pipe, opts Options, count *counter) (digest.Digest, error) {
	hash := algorithm(opts.DiffID).Digester()
	for {
		chunk, err := in.next()
		if err == io.EOF {
			return hash.Digest(), nil
		}
		if err != nil {
			return "", err
		}
		hash.Hash().Write(chunk)
		count.add(0, len(chunk))
		if count.unpacked.Load() > opts.Limits.Size {
			return "", fmt.Errorf("the layer unpacks to more than %d bytes: %w", opts.Limits.Size, errdefs.ErrResourceExhausted)
		}
		if err := out.send(chunk); err != nil {
			return "", err
		}
	}
}
