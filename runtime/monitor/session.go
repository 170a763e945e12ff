package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// maxRequests of one client are worked on at a time; more wait in its socket.
const maxRequests = 256

// session is one client of the server.
type session struct {
	server *Server
	conn   *conn
	events *queue
	slots  chan struct{}

	sending sync.Mutex // one message at a time

	mu       sync.Mutex // guards what follows
	greeted  bool
	version  int
	cancels  map[uint64]context.CancelFunc
	tied     map[*execution]struct{} // die with the session
	attached map[string]*attachment  // end with the session
	gone     bool
}

// reply is the answer to a request. then runs after it was sent.
type reply struct {
	body  any
	files []sent
	then  func()
}

// ServeClient answers one connection, which it owns, until it ends.
func (s *Server) ServeClient(sock *net.UnixConn) {
	c := &session{
		server:   s,
		conn:     newConn(sock),
		slots:    make(chan struct{}, maxRequests),
		cancels:  map[uint64]context.CancelFunc{},
		tied:     map[*execution]struct{}{},
		attached: map[string]*attachment{},
	}
	c.events = newQueue(c.event)
	s.mu.Lock()
	s.clients[c] = struct{}{}
	s.mu.Unlock()

	c.receive()

	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
	sock.Close()
	c.events.close()
	c.mu.Lock()
	c.gone = true
	orphans, attached := c.tied, c.attached
	c.tied, c.attached = nil, nil
	c.mu.Unlock()
	for e := range orphans {
		go e.abandon()
	}
	for _, a := range attached {
		a.end(fmt.Errorf("the connection to the monitor has ended: %w", errdefs.ErrUnavailable))
	}
}

func (c *session) receive() {
	for {
		e, files, err := c.conn.receive()
		switch {
		case errors.Is(err, errBadMessage):
			c.answer(e.ID, reply{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument))
			continue
		case err != nil:
			return
		case e.Op == opCancel:
			closeAll(files)
			c.cancel(e)
			continue
		}
		c.slots <- struct{}{}
		go func() {
			defer func() { <-c.slots }()
			defer closeAll(files)
			c.serve(e, files)
		}()
	}
}

func (c *session) serve(e envelope, files map[string]*os.File) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.mu.Lock()
	c.cancels[e.ID] = cancel
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.cancels, e.ID)
		c.mu.Unlock()
	}()
	r, err := c.guarded(ctx, e, files)
	c.answer(e.ID, r, err)
	if r.then != nil {
		r.then()
	}
}

// guarded turns a panic into an error: 500 containers hang on this process.
func (c *session) guarded(ctx context.Context, e envelope, files map[string]*os.File) (r reply, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.server.cfg.Log.Error("panic", "op", e.Op, "panic", p, "stack", string(debug.Stack()))
			r, err = reply{}, fmt.Errorf("%s: the monitor panicked: %v: %w", e.Op, p, errdefs.ErrInternal)
		}
	}()
	return c.dispatch(ctx, e, files)
}

func (c *session) dispatch(ctx context.Context, e envelope, files map[string]*os.File) (reply, error) {
	s := c.server
	if e.Op == opHello {
		return c.hello(e.Body)
	}
	c.mu.Lock()
	greeted, version := c.greeted, c.version
	c.mu.Unlock()
	if !greeted {
		return reply{}, fmt.Errorf("%s before hello: %w", e.Op, errdefs.ErrFailedPrecondition)
	}
	if version != Protocol && e.Op != opUpgrade {
		return reply{}, fmt.Errorf("this monitor (build %s) speaks protocol %d, the client %d: %w",
			s.cfg.Build, Protocol, version, errdefs.ErrFailedPrecondition)
	}
	switch e.Op {
	case opStart:
		return handle(e, func(r StartRequest) (reply, error) { return s.start(ctx, r, files[filePlan]) })
	case opAdopt:
		return handle(e, func(r AdoptRequest) (reply, error) {
			r.Pidfd, r.Console = files[filePidfd], files[fileConsole]
			return reply{}, s.adopt(ctx, r)
		})
	case opExec:
		return handle(e, func(r ExecRequest) (reply, error) {
			r.Plan, r.Stdin, r.Stdout, r.Stderr = files[filePlan], files[fileStdin], files[fileStdout], files[fileStderr]
			return s.exec(ctx, c, r)
		})
	case opAttach:
		return handle(e, func(r AttachRequest) (reply, error) {
			r.wake, r.stdout, r.stderr = files[fileWake], files[fileStdout], files[fileStderr]
			clear(files) // they are the attachment's
			return reply{}, s.attachTo(c, r)
		})
	case opDetach:
		return handle(e, func(t target) (reply, error) { s.detachFrom(c, t.ID); return reply{}, nil })
	case opReopen:
		return handle(e, func(t target) (reply, error) { return reply{}, s.reopen(t.ID) })
	case opCloseStdin:
		return handle(e, func(t target) (reply, error) { return reply{}, s.closeStdin(t.ID) })
	case opTake:
		return handle(e, func(t target) (reply, error) { return s.take(t.ID) })
	case opForget:
		return handle(e, func(t target) (reply, error) { return reply{}, s.forget(t.ID) })
	case opKill:
		return handle(e, func(r KillRequest) (reply, error) { return reply{}, s.kill(r) })
	case opUpgrade:
		return handle(e, func(r upgradeRequest) (reply, error) { return reply{}, s.upgrade(r) })
	case opList:
		return handle(e, func(r listRequest) (reply, error) { return reply{body: s.list(r.After)}, nil })
	}
	return reply{}, fmt.Errorf("operation %q: %w", e.Op, errdefs.ErrNotImplemented)
}

// handle decodes the body of a request.
func handle[T any](e envelope, f func(T) (reply, error)) (reply, error) {
	var body T
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return reply{}, fmt.Errorf("body of %s: %w: %w", e.Op, err, errdefs.ErrInvalidArgument)
	}
	return f(body)
}

func (c *session) hello(body json.RawMessage) (reply, error) {
	var h hello
	if err := json.Unmarshal(body, &h); err != nil {
		return reply{}, fmt.Errorf("hello: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.greeted, c.version = true, h.Protocol
	return reply{body: hello{Protocol: Protocol, Build: c.server.cfg.Build, Pid: os.Getpid()}}, nil
}

func (c *session) cancel(e envelope) {
	var r cancelRequest
	if json.Unmarshal(e.Body, &r) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.cancels[r.Request]; cancel != nil {
		cancel()
	}
}

func (c *session) answer(id uint64, r reply, err error) {
	e, files := attach(envelope{ID: id, Error: toWire(err)}, r.files)
	if e.Error != nil && len(e.Error.Text) > maxMessage/4 {
		e.Error.Text = e.Error.Text[:maxMessage/4]
	}
	c.send(e, r.body, files)
}

func (c *session) event(x Exit) { c.send(envelope{Op: eventExit}, x, nil) }

// send gives up on a client that does not read: it connects and lists again.
func (c *session) send(e envelope, body any, files []*os.File) {
	data, err := encode(e, body)
	if err != nil {
		data, _ = encode(envelope{ID: e.ID, Error: toWire(err)}, nil)
		files = nil
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	if err := c.conn.send(data, files, time.Now().Add(sendTimeout)); err != nil {
		c.conn.sock.Close()
	}
}
