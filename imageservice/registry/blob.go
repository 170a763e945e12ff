package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Blob streams a blob. When the connection breaks or stalls, it goes on where
// it was, on a new connection or with the next endpoint. It is not verified.
type Blob struct {
	s      *Session
	ctx    context.Context
	cancel context.CancelFunc
	desc   ocispec.Descriptor
	hosts  []*host // those left, the present one first

	offset   int64
	resumed  int64 // the offset at which the present connection began
	failures int   // in a row, of the present endpoint
	failed   *Error

	mu   sync.Mutex // Close comes from another goroutine than Read
	body *stream
}

// progressed is how much a connection must bring for the failures before it
// to be forgotten: a line that breaks every megabyte still gets a layer through.
const progressed = 1 << 20

// Blob opens nothing yet: the first Read does.
func (s *Session) Blob(ctx context.Context, desc ocispec.Descriptor) *Blob {
	ctx, cancel := context.WithCancel(ctx)
	b := &Blob{s: s, ctx: ctx, cancel: cancel, desc: desc, failed: &Error{Request: "blob " + desc.Digest.String()}}
	for _, h := range s.hosts {
		if h.pull && !h.rejected(desc.Digest) {
			b.hosts = append(b.hosts, h)
		}
	}
	return b
}

// Close ends a Read in flight.
func (b *Blob) Close() error {
	b.cancel()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.body != nil {
		b.body.close()
		b.body = nil
	}
	return nil
}

// Reject says that what the last endpoint sent was wrong. It reports whether
// another one is left to be tried by a new Blob of the same session.
func (b *Blob) Reject() bool {
	if len(b.hosts) == 0 {
		return false
	}
	b.hosts[0].reject(b.desc.Digest)
	return len(b.hosts) > 1
}

func (b *Blob) Read(p []byte) (int, error) {
	for {
		if b.offset >= b.desc.Size {
			return 0, io.EOF
		}
		body, err := b.connected()
		if err != nil {
			return 0, err
		}
		n, err := body.read(p[:min(int64(len(p)), b.desc.Size-b.offset)])
		b.offset += int64(n)
		if n > 0 {
			return n, nil // an error comes again with the next Read
		}
		if err == nil {
			continue
		}
		if ended := contextError(b.ctx); ended != nil {
			return 0, ended
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		b.drop()
		if b.offset-b.resumed >= progressed {
			b.failures = 0
		}
		if err := b.failure(fmt.Errorf("after %d of %d bytes: %w", b.offset, b.desc.Size, transportError(err)), time.Now()); err != nil {
			return 0, err
		}
	}
}

// connected returns the present connection or makes one.
func (b *Blob) connected() (*stream, error) {
	b.mu.Lock()
	body := b.body
	b.mu.Unlock()
	for body == nil {
		if len(b.hosts) == 0 {
			return nil, b.failed
		}
		began := time.Now()
		var err error
		if body, err = b.open(b.hosts[0]); err == nil {
			b.s.note(b.hosts[0], b.request(), began, nil)
			break
		}
		if ended := contextError(b.ctx); ended != nil {
			return nil, ended
		}
		if err := b.failure(err, began); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() != nil {
		body.close()
		return nil, context.Cause(b.ctx)
	}
	b.body = body
	return body, nil
}

func (b *Blob) request() string {
	r := "GET blobs/" + b.desc.Digest.String()
	if b.offset > 0 {
		r += fmt.Sprintf(" from byte %d", b.offset)
	}
	return r
}

func (b *Blob) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.body != nil {
		b.body.close()
		b.body = nil
	}
}

// failure decides what comes after an error: the same endpoint after a pause,
// the next one, or the end.
func (b *Blob) failure(err error, began time.Time) error {
	attempt := b.s.note(b.hosts[0], b.request(), began, err)
	b.failed.Attempts, b.failed.kind = append(b.failed.Attempts, attempt), kindOf(err)
	// An endpoint that has brought a part is worth more patience than one that
	// never answered while others are left.
	patient := b.offset > b.resumed || b.failures > 0 || len(b.hosts) == 1
	if patient && temporary(err) && b.failures < b.s.opts.Retries && b.s.pause(b.ctx, b.failures, err) {
		b.failures++
		return nil
	}
	b.failures, b.hosts = 0, b.hosts[1:]
	if len(b.hosts) == 0 {
		return b.failed
	}
	return nil
}

// open asks an endpoint for the blob from the present offset on.
func (b *Blob) open(h *host) (*stream, error) {
	ctx, cancel := context.WithCancelCause(b.ctx)
	st := &stream{cancel: cancel, stall: b.s.opts.Stall}
	st.timer = time.AfterFunc(st.stall, func() { cancel(errStalled) })
	st.cause = func() error { return context.Cause(ctx) }
	header := http.Header{}
	if b.offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", b.offset, b.desc.Size-1))
	}
	resp, err := b.s.send(ctx, h, http.MethodGet, "blobs/"+b.desc.Digest.String(), header)
	if err != nil {
		st.close()
		if errors.Is(st.cause(), errStalled) {
			err = &linkError{errStalled, unavailable}
		}
		return nil, err
	}
	st.body = resp.Body
	if err := b.accept(resp, st); err != nil {
		st.close()
		return nil, err
	}
	b.resumed = b.offset
	st.timer.Stop()
	return st, nil
}

// accept checks that the answer begins at the offset and has the right length.
func (b *Blob) accept(resp *http.Response, st *stream) error {
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" && resp.StatusCode < 300 {
		return fmt.Errorf("the blob comes with Content-Encoding %.40q: %w", enc, errdefs.ErrDataLoss)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != b.desc.Size {
			return fmt.Errorf("the blob has %d bytes, the manifest says %d: %w", resp.ContentLength, b.desc.Size, errdefs.ErrDataLoss)
		}
		// Ranges are not served: what is here already is read once more.
		return st.skip(b.offset)
	case http.StatusPartialContent:
		if start, ok := rangeStart(resp.Header.Get("Content-Range"), b.desc.Size); !ok || start != b.offset {
			return fmt.Errorf("the range is %.80q, asked for was byte %d on of %d: %w",
				resp.Header.Get("Content-Range"), b.offset, b.desc.Size, errdefs.ErrDataLoss)
		}
		return nil
	}
	return newStatusError(resp)
}

// rangeStart reads "bytes 5-9/10".
func rangeStart(s string, size int64) (int64, bool) {
	s, ok := strings.CutPrefix(s, "bytes ")
	span, total, ok2 := strings.Cut(s, "/")
	if n, err := strconv.ParseInt(total, 10, 64); total != "*" && (err != nil || n != size) {
		return 0, false
	}
	first, _, ok3 := strings.Cut(span, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	return start, ok && ok2 && ok3 && err == nil
}

// stream is the body of one answer, given up when nothing arrives.
type stream struct {
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	cause  func() error
	timer  *time.Timer
	stall  time.Duration
}

func (st *stream) read(p []byte) (int, error) {
	st.timer.Reset(st.stall)
	n, err := st.body.Read(p)
	st.timer.Stop()
	if err != nil && err != io.EOF && errors.Is(st.cause(), errStalled) {
		err = errStalled
	}
	return n, err
}

func (st *stream) skip(n int64) error {
	buf := make([]byte, min(n, 64<<10))
	for n > 0 {
		got, err := st.read(buf[:min(n, int64(len(buf)))])
		n -= int64(got)
		if err != nil && n > 0 {
			return transportError(err)
		}
	}
	return nil
}

func (st *stream) close() {
	st.timer.Stop()
	st.cancel(context.Canceled)
	if st.body != nil {
		st.body.Close()
	}
}

func contentType(resp *http.Response) string {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}
