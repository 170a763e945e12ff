package container

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/berth-cri/berth/linux"
)

// Streams are a client's ends of an exec or of an attachment. Reading and
// writing must end when the client goes.
type Streams struct {
	Stdin          io.Reader      // nil: none
	Stdout, Stderr io.WriteCloser // nil: thrown away; closed at the end of the output

	// Resize waits for the next size of the client's terminal; !ok: there will
	// be none. nil for a client without.
	Resize func() (columns, rows uint16, ok bool)
}

// output moves what comes out of a pipe or a terminal to a client until its end
// and closes the client's stream. A client that does not take it any more gets
// nothing, and the process goes on.
func output(to io.WriteCloser, from *os.File) {
	buf := pages.Get().(*[]byte)
	defer pages.Put(buf)
	var w io.Writer = io.Discard
	if to != nil {
		defer to.Close()
		w = to
	}
	for {
		n, err := from.Read(*buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			rest(w, from, *buf)
			return
		}
		if n > 0 {
			if _, err := w.Write((*buf)[:n]); err != nil {
				w = io.Discard
			}
		}
		if err != nil {
			return // end of file; of a terminal that nobody has open any more EIO
		}
	}
}

// rest moves what is in a pipe at this moment: the client was so slow that the
// time for the drain is over. It is bounded by what a pipe holds, as something
// may still be writing.
func rest(w io.Writer, from *os.File, buf []byte) {
	from.SetReadDeadline(time.Time{})
	for total := 0; total < 64<<10; {
		n, err := linux.ReadNow(from, buf)
		if n > 0 {
			w.Write(buf[:n])
		}
		if n <= 0 || err != nil {
			return
		}
		total += n
	}
}

// input moves what a client sends to a process. What a process does not take any
// more is read and thrown away, or it would hold up the client's other streams.
func input(to io.Writer, from io.Reader) {
	buf := pages.Get().(*[]byte)
	defer pages.Put(buf)
	for {
		n, err := from.Read(*buf)
		if n > 0 {
			if _, err := to.Write((*buf)[:n]); err != nil {
				to = io.Discard
			}
		}
		if err != nil {
			return
		}
	}
}

// window follows the size of a client's terminal.
type window struct {
	mu     sync.Mutex // guards what follows
	known  bool
	size   [2]uint16 // columns, rows
	resize func(columns, rows uint16)
}

// follow notes sizes from now on.
func follow(next func() (columns, rows uint16, ok bool)) *window {
	w := &window{}
	if next == nil {
		return w
	}
	go func() {
		for {
			columns, rows, ok := next()
			if !ok {
				return
			}
			w.mu.Lock()
			w.known, w.size = true, [2]uint16{columns, rows}
			if w.resize != nil {
				w.resize(columns, rows)
			}
			w.mu.Unlock()
		}
	}()
	return w
}

// now is the last size; !ok: none is known yet.
func (w *window) now() (columns, rows uint16, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size[0], w.size[1], w.known
}

// set calls f with the last size and with each that follows; nil ends that.
func (w *window) set(f func(columns, rows uint16)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resize = f
	if f != nil && w.known {
		f(w.size[0], w.size[1])
	}
}
