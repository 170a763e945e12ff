package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// sendTimeout bounds one message: a peer that does not read for so long is broken.
const sendTimeout = 10 * time.Second

// client is one connection to a monitor.
type client struct {
	conn    *conn
	monitor hello
	onEvent func(Exit) // of a container
	closed  chan struct{}

	sending sync.Mutex // one message at a time

	mu      sync.Mutex // guards what follows
	last    uint64
	pending map[uint64]chan answer
	execs   map[execKey]*Exec
	err     error // why the connection ended
}

type execKey struct{ container, id string }

type answer struct {
	body  json.RawMessage
	files map[string]*os.File
	err   error
}

// newClient shakes hands over a fresh connection, which it owns.
func newClient(ctx context.Context, sock *net.UnixConn, build string, onEvent func(Exit)) (*client, error) {
	c := &client{
		conn:    newConn(sock),
		onEvent: onEvent,
		closed:  make(chan struct{}),
		pending: map[uint64]chan answer{},
		execs:   map[execKey]*Exec{},
	}
	go c.receive()
	if _, err := c.call(ctx, opHello, hello{Protocol: Protocol, Build: build}, nil, &c.monitor); err != nil {
		c.close(err)
		return nil, fmt.Errorf("shake hands with the monitor: %w", err)
	}
	return c, nil
}

// speaks fails when the monitor's protocol is another one than ours.
func (c *client) speaks() error {
	if c.monitor.Protocol == Protocol {
		return nil
	}
	return fmt.Errorf("the running monitor (pid %d, build %s) speaks protocol %d, this program speaks %d: %w",
		c.monitor.Pid, c.monitor.Build, c.monitor.Protocol, Protocol, errdefs.ErrFailedPrecondition)
}

func dial(ctx context.Context, path, build string, onEvent func(Exit)) (*client, error) {
	var d net.Dialer
	s, err := d.DialContext(ctx, "unixpacket", path)
	if err != nil {
		return nil, err
	}
	return newClient(ctx, s.(*net.UnixConn), build, onEvent)
}

// sent is a file with its name in the message.
type sent struct {
	name string
	file *os.File
}

// attach names the files of a message; nil ones stay out.
func attach(e envelope, files []sent) (envelope, []*os.File) {
	var open []*os.File
	for _, f := range files {
		if f.file != nil {
			e.Files = append(e.Files, f.name)
			open = append(open, f.file)
		}
	}
	return e, open
}

// call makes one request. It returns the files of the answer.
func (c *client) call(ctx context.Context, op string, body any, files []sent, out any) (map[string]*os.File, error) {
	reply := make(chan answer, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, c.err
	}
	c.last++
	id := c.last
	c.pending[id] = reply
	c.mu.Unlock()
	defer c.drop(id, reply)

	e, open := attach(envelope{ID: id, Op: op}, files)
	if err := c.send(e, body, open); err != nil {
		return nil, err
	}
	over := ctx.Done()
	for {
		select {
		case a := <-reply:
			if a.err == nil && out != nil {
				a.err = json.Unmarshal(a.body, out)
			}
			if a.err != nil {
				closeAll(a.files)
				return nil, a.err
			}
			return a.files, nil
		case <-over:
			if op != opStart && op != opExec {
				return nil, fmt.Errorf("%s in the monitor: %w", op, ctx.Err())
			}
			// Wait for the answer all the same: an error must mean no process.
			over = nil
			if err := c.send(envelope{Op: opCancel}, cancelRequest{id}, nil); err != nil {
				return nil, err
			}
		}
	}
}

func (c *client) send(e envelope, body any, files []*os.File) error {
	data, err := encode(e, body)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	if err := c.conn.send(data, files, time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("send %s to the monitor: %w: %w", e.Op, err, errdefs.ErrUnavailable)
	}
	return nil
}

// drop forgets a request; an answer that came too late is closed.
func (c *client) drop(id uint64, reply chan answer) {
	c.mu.Lock()
	delete(c.pending, id)
	c.mu.Unlock()
	select {
	case a := <-reply:
		closeAll(a.files)
	default:
	}
}

func (c *client) receive() {
	for {
		e, files, err := c.conn.receive()
		if errors.Is(err, errBadMessage) {
			continue
		}
		if err != nil {
			c.close(fmt.Errorf("%w: %w: %w", errGone, err, errdefs.ErrUnavailable))
			return
		}
		if e.ID != 0 {
			c.answer(e, files)
			continue
		}
		closeAll(files)
		c.event(e)
	}
}

func (c *client) answer(e envelope, files map[string]*os.File) {
	c.mu.Lock()
	reply := c.pending[e.ID]
	delete(c.pending, e.ID)
	if reply != nil {
		a := answer{body: e.Body, files: files}
		if e.Error != nil {
			a.err = e.Error.err()
		}
		reply <- a // has room for one, and there is only one
	}
	c.mu.Unlock()
	if reply == nil {
		closeAll(files)
	}
}

func (c *client) event(e envelope) {
	var x Exit
	if e.Op != eventExit || json.Unmarshal(e.Body, &x) != nil {
		return // of a newer monitor
	}
	if x.ContainerID == "" {
		c.onEvent(x)
		return
	}
	key := execKey{x.ContainerID, x.ID}
	c.mu.Lock()
	ex := c.execs[key]
	delete(c.execs, key)
	c.mu.Unlock()
	if ex != nil {
		ex.finish(x, nil)
	}
}

// close ends the connection and everything that waits for it.
func (c *client) close(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	pending, execs := c.pending, c.execs
	c.pending, c.execs = nil, nil
	c.mu.Unlock()
	c.conn.sock.Close()
	for _, reply := range pending {
		reply <- answer{err: err}
	}
	for _, ex := range execs {
		ex.finish(Exit{}, err)
	}
	close(c.closed)
}
