package container

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/berth-cri/berth/linux"
)

// outputLimit bounds stdout and stderr of an ExecSync together, in bytes. The
// CRI says 16 MiB each, but the kubelet's client takes 16 MiB for the whole
// reply, so that the rest is the message's framing.
const outputLimit = 16<<20 - 64<<10

// capture reads the output of a command from pipes into memory, bounded, and
// reads on when the bound is reached so that the command never blocks.
type capture struct {
	read, write []*os.File
	wg          sync.WaitGroup

	mu   sync.Mutex
	room int      // guarded by mu: bytes that may still be kept
	kept [][]byte // guarded by mu: one per pipe
}

func newCapture(pipes int) (*capture, error) {
	c := &capture{room: outputLimit, kept: make([][]byte, pipes)}
	for range pipes {
		r, w, err := linux.Pipe()
		if err != nil {
			c.close()
			return nil, err
		}
		c.read, c.write = append(c.read, r), append(c.write, w)
	}
	return c, nil
}

// started gives up our own write ends, so that the end of the command is the
// end of the stream, and begins to read.
func (c *capture) started() {
	for _, w := range c.write {
		w.Close()
	}
	for i, r := range c.read {
		c.wg.Go(func() {
			buf := pages.Get().(*[]byte)
			defer pages.Put(buf)
			for {
				n, err := r.Read(*buf)
				c.keep(i, (*buf)[:n])
				if err != nil {
					return // end of file, or drain's bound
				}
			}
		})
	}
}

var pages = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

func (c *capture) keep(i int, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b = b[:min(len(b), c.room)]
	c.room -= len(b)
	c.kept[i] = append(c.kept[i], b...)
}

// drain reads what is left, but no longer than limit: a child that the command
// left in the background may hold the pipe open for ever (containerd#9668,
// CVE-2026-53495).
func (c *capture) drain(limit time.Duration) [][]byte {
	for _, r := range c.read {
		if err := r.SetReadDeadline(time.Now().Add(limit)); err != nil && !errors.Is(err, os.ErrClosed) {
			r.Close()
		}
	}
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept
}

func (c *capture) close() {
	for _, f := range append(c.read, c.write...) {
		f.Close()
	}
	c.wg.Wait()
}
