package streaming

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lingerLimit bounds the wait for a client to take the last word and close.
	lingerLimit = 5 * time.Second
	// watchEvery is how often a client that sends more than is read is looked at.
	watchEvery = time.Second
)

var errClientGone = errors.New("the client has gone")

// conn is a client's connection. Its context ends when the client goes.
type conn struct {
	*net.TCPConn
	ctx    context.Context
	cancel context.CancelCauseFunc
	forget func(*conn) // called at its end

	hijacked atomic.Bool // it is no HTTP any more
	closing  atomic.Bool
	reading  sync.Mutex    // held during a Read
	done     chan struct{} // closed at its end
}

type connKey struct{}

// connOf is the connection that a request came over.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// Read ends the context at the end of the connection.
func (c *conn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.closing.Load() {
		return 0, io.EOF
	}
	n, err := c.TCPConn.Read(b)
	if err != nil && c.closing.Load() {
		err = io.EOF
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.cancel(errClientGone)
	}
	return n, err
}

// Close says that nothing more will come and lets the client close. A close with
// something unread would be a reset, which takes back what the client has not
// read yet: the exit code, say, when not all input was wanted.
func (c *conn) Close() error {
	if c.closing.Swap(true) {
		return nil
	}
	c.cancel(errClientGone)
	c.SetReadDeadline(time.Unix(1, 0)) // who reads now is told that it is over
	go c.linger()
	return nil
}

func (c *conn) linger() {
	defer func() {
		c.TCPConn.Close()
		close(c.done)
		c.forget(c)
	}()
	if c.CloseWrite() != nil {
		return
	}
	c.reading.Lock() // until who reads now has left; later ones are told at once
	c.SetReadDeadline(time.Now().Add(lingerLimit))
	c.reading.Unlock()
	io.Copy(io.Discard, c.TCPConn)
}

// watch ends the context when the client goes while nobody reads: what it has
// sent is more than a process takes. No client half-closes its connection.
func (c *conn) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return
		}
		if c.gone() {
			c.cancel(errClientGone)
		}
	}
}

func (c *conn) gone() (gone bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0
	})
	return gone || err != nil
}
