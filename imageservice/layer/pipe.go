package layer

import (
	"context"
	"io"
	"sync"
)

// chunkSize is what the stages of an unpack hand to each other. Small enough
// for the second level cache, large enough that a handover (under 1 µs) does
// not count.
const chunkSize = 256 << 10

// depth is how many chunks may wait between two stages: one layer holds about
// 3 MiB at most.
const depth = 3

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

func newChunk() []byte { return chunks.Get().(*[chunkSize]byte)[:] }

func freeChunk(b []byte) { chunks.Put((*[chunkSize]byte)(b[:chunkSize])) }

// pipe carries chunks from one stage to the next. Sending gives a chunk away.
type pipe struct {
	ctx  context.Context
	full chan []byte
	err  error // of the sending stage; set before full is closed

	// of the receiving stage
	failed      error  // what next returned last, io.EOF apart
	chunk, rest []byte // for Read
}

func newPipe(ctx context.Context) *pipe {
	return &pipe{ctx: ctx, full: make(chan []byte, depth)}
}

func (p *pipe) send(chunk []byte) error {
	select {
	case p.full <- chunk:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// copy sends everything that r has, in full chunks; see gets each piece as it
// is read. (io.ReadFull cannot tell a stream that ends from one that is cut.)
func (p *pipe) copy(r io.Reader, see func([]byte) error) error {
	chunk, n := newChunk(), 0
	for {
		m, err := r.Read(chunk[n:])
		if m > 0 {
			if err := see(chunk[n : n+m]); err != nil {
				return err
			}
		}
		if n += m; n == len(chunk) || err == io.EOF && n > 0 {
			if err := p.send(chunk[:n]); err != nil {
				return err
			}
			chunk, n = newChunk(), 0
		}
		if err == io.EOF {
			freeChunk(chunk)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// close ends the stream: with io.EOF for the reader, or with the error.
func (p *pipe) close(err error) {
	p.err = err
	close(p.full)
}

// next returns the next chunk, which is the caller's from now on.
func (p *pipe) next() ([]byte, error) {
	select {
	case chunk, ok := <-p.full:
		if ok {
			return chunk, nil
		}
		if p.failed = p.err; p.failed == nil {
			return nil, io.EOF
		}
	case <-p.ctx.Done():
		p.failed = context.Cause(p.ctx)
	}
	return nil, p.failed
}

// Read copies out of the chunks.
func (p *pipe) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.chunk != nil {
			freeChunk(p.chunk)
			p.chunk = nil
		}
		chunk, err := p.next()
		if err != nil {
			return 0, err
		}
		p.chunk, p.rest = chunk, chunk
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
