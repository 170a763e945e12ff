package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
)

const (
	connectTimeout = 10 * time.Second
	clientWait     = 5 * time.Second // for a monitor that is being replaced
	firstBackoff   = 5 * time.Millisecond
	lastBackoff    = 2 * time.Second
)

// Options of a Supervisor.
type Options struct {
	Socket   string // of the monitor
	StateDir string // for monitor.json, monitor.lock, monitor.log
	Binary   string // berth-monitor
	Init     string // berth-init
	Build    string // version of this program
	Log      *slog.Logger

	// Adopt names the containers that should run; those that the monitor does
	// not know are handed to it. Called at every connection.
	Adopt func() []AdoptRequest
	// OnExit hears of every exit of a container, at least once and one at a
	// time. It may call the Supervisor.
	OnExit func(Exit)
	// Connected hears of the process that serves, after each start of one and at
	// each new connection, before anything is asked of it.
	Connected func(pid int)
	// OnLost hears that the monitor died and is being replaced.
	OnLost func(error)
}

// Supervisor keeps a monitor running and talks to it.
type Supervisor struct {
	opts  Options
	exits *queue

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex // guards what follows
	current *client    // nil: being replaced
	ready   chan struct{}
	stops   map[string]time.Time // when the Kill of a container strikes

	lost, spawned, upgraded, adopted atomic.Uint64
}

// Counts are what has happened since this process began.
type Counts struct {
	Connected                        bool
	Lost, Spawned, Upgraded, Adopted uint64 // monitors, and at last containers handed to one
}

// Counts returns them.
func (s *Supervisor) Counts() Counts {
	pid, _ := s.Monitor()
	return Counts{pid != 0, s.lost.Load(), s.spawned.Load(), s.upgraded.Load(), s.adopted.Load()}
}

// Supervise connects to the monitor of the socket, or starts one that outlives
// this process, and replaces it whenever it dies. It returns when everything of
// Options.Adopt is watched.
func Supervise(ctx context.Context, o Options) (*Supervisor, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Supervisor{opts: o, done: make(chan struct{}), ready: make(chan struct{}), stops: map[string]time.Time{}}
	s.exits = newQueue(func(x Exit) {
		s.mu.Lock()
		delete(s.stops, x.ID)
		s.mu.Unlock()
		if o.OnExit != nil {
			o.OnExit(x)
		}
	})
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	c, err := s.connect(ctx)
	if errors.Is(err, errdefs.ErrUnavailable) {
		c, err = s.connect(ctx) // it died under our hands, perhaps of an upgrade
	}
	if err != nil {
		s.stop()
		s.exits.close()
		return nil, err
	}
	s.publish(c)
	go s.watch(c)
	return s, nil
}

// Close leaves the monitor, which goes on.
func (s *Supervisor) Close() {
	s.stop()
	s.mu.Lock()
	c := s.current
	s.mu.Unlock()
	if c != nil {
		c.close(fmt.Errorf("the supervisor is closed: %w", errdefs.ErrUnavailable))
	}
	<-s.done
	s.exits.close()
}

// Monitor says which process and build serves now; 0 when it is being replaced.
func (s *Supervisor) Monitor() (pid int, build string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return 0, ""
	}
	return s.current.monitor.Pid, s.current.monitor.Build
}

// Ready is an error while the monitor is being replaced.
func (s *Supervisor) Ready() error {
	if pid, _ := s.Monitor(); pid == 0 {
		return fmt.Errorf("the monitor was lost and is being replaced: %w", errdefs.ErrUnavailable)
	}
	return nil
}

// client waits a little for a connection.
func (s *Supervisor) client(ctx context.Context) (*client, error) {
	timeout := time.NewTimer(clientWait)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		c, ready := s.current, s.ready
		s.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.ctx.Done():
			return nil, fmt.Errorf("the supervisor is closed: %w", errdefs.ErrUnavailable)
		case <-timeout.C:
			return nil, fmt.Errorf("no monitor: %w", errdefs.ErrUnavailable)
		}
	}
}

func (s *Supervisor) publish(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = c
	close(s.ready)
}

// watch replaces the monitor when its connection ends. The kernel closes the
// socket of a dead process, so there is nothing to poll.
func (s *Supervisor) watch(c *client) {
	defer close(s.done)
	for {
		select {
		case <-c.closed:
		case <-s.ctx.Done():
			c.close(fmt.Errorf("the supervisor is closed: %w", errdefs.ErrUnavailable))
			return
		}
		if s.ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.current, s.ready = nil, make(chan struct{})
		s.mu.Unlock()
		s.opts.Log.Warn("lost the monitor", "pid", c.monitor.Pid, "error", c.err)
		s.lost.Add(1)
		if s.opts.OnLost != nil {
			s.opts.OnLost(c.err)
		}
		if c = s.reconnect(); c == nil {
			return
		}
		s.opts.Log.Info("monitor is back", "pid", c.monitor.Pid)
		s.publish(c)
	}
}

// reconnect tries until it works or Close is called (nil).
func (s *Supervisor) reconnect() *client {
	for wait := firstBackoff; ; wait = min(2*wait, lastBackoff) {
		c, err := s.connect(s.ctx)
		if err == nil {
			return c
		}
		s.opts.Log.Error("replace the monitor", "error", err)
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return nil
		}
	}
}

// connect finds the living monitor or starts one, and brings both sides to the
// same knowledge.
func (s *Supervisor) connect(ctx context.Context) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	c, err := dial(ctx, s.opts.Socket, s.opts.Build, s.exits.add)
	if refused(err) {
		if c, err = spawn(ctx, s.opts, s.exits.add); err == nil {
			s.spawned.Add(1)
		}
	}
	if err != nil {
		return nil, err
	}
	if s.opts.Connected != nil {
		s.opts.Connected(c.monitor.Pid)
	}
	if c.monitor.Build != s.opts.Build {
		c = s.upgrade(ctx, c)
	}
	if err = c.speaks(); err == nil {
		err = s.agree(ctx, c)
	}
	if err != nil {
		c.close(err)
		return nil, err
	}
	return c, nil
}

// upgrade makes a monitor of another build become ours, and returns a connection
// to what serves then. A monitor that cannot is kept, if it speaks our protocol.
func (s *Supervisor) upgrade(ctx context.Context, c *client) *client {
	log := s.opts.Log.With("pid", c.monitor.Pid, "from", c.monitor.Build, "to", s.opts.Build)
	_, err := c.call(ctx, opUpgrade, upgradeRequest{s.opts.Binary, s.opts.Init}, nil, nil)
	if !errors.Is(err, errGone) {
		log.Error("upgrade the monitor", "error", err)
		return c
	}
	n, err := dial(ctx, s.opts.Socket, s.opts.Build, s.exits.add)
	if err != nil {
		log.Error("upgrade the monitor", "error", err)
		return c // closed: the next attempt starts one
	}
	s.upgraded.Add(1)
	log.Info("upgraded the monitor", "now", n.monitor.Build)
	return n
}

// agree hears the exits that were missed and hands over what the monitor does
// not know.
func (s *Supervisor) agree(ctx context.Context, c *client) error {
	list, err := c.list(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(list))
	for _, k := range list {
		known[k.ID] = true
		if k.Exit != nil {
			s.exits.add(*k.Exit)
		}
	}
	if s.opts.Adopt == nil {
		return nil
	}
	for _, a := range s.opts.Adopt() {
		if known[a.ID] {
			continue
		}
		_, err := c.call(ctx, opAdopt, a, []sent{{filePidfd, a.Pidfd}, {fileConsole, a.Console}}, nil)
		if errors.Is(err, errdefs.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if err != nil { // one broken container never holds up the others
			s.opts.Log.Error("hand a container to the monitor", "container", a.ID, "error", err)
			continue
		}
		s.adopted.Add(1)
		s.mu.Lock()
		end, stopping := s.stops[a.ID]
		s.mu.Unlock()
		if stopping {
			k := KillRequest{ID: a.ID, After: max(time.Until(end), 0)}
			if _, err := c.call(ctx, opKill, k, nil, nil); err != nil {
				s.opts.Log.Error("go on stopping a container", "container", a.ID, "error", err)
			}
		}
	}
	return nil
}
