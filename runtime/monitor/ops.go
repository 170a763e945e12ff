package monitor

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
)

// reopen is opReopen. CRI: after an error there must be no new file.
func (s *Server) reopen(id string) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	if c.hasEnded() {
		return fmt.Errorf("container %s is not running: %w", id, errdefs.ErrFailedPrecondition)
	}
	return c.log.Reopen()
}

// closeStdin is opCloseStdin.
func (s *Server) closeStdin(id string) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	closeFiles(&c.stdin)
	return nil
}

// take is opTake.
func (s *Server) take(id string) (reply, error) {
	c, err := s.find(id)
	if err != nil {
		return reply{}, err
	}
	if c.pidfd == nil {
		return reply{}, fmt.Errorf("container %s was gone when it was adopted: %w", id, errdefs.ErrFailedPrecondition)
	}
	if c.console != nil {
		// A daemon that died with a client attached left it non-blocking, for
		// the next one's poller to find and be woken at every output.
		if err := linux.Block(c.console); err != nil {
			return reply{}, err
		}
	}
	return reply{files: []sent{{filePidfd, c.pidfd}, {fileConsole, c.console}}}, nil
}

// forget is opForget.
func (s *Server) forget(id string) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	if !c.hasEnded() {
		return fmt.Errorf("container %s is running: %w", id, errdefs.ErrFailedPrecondition)
	}
	s.settle(id, nil)
	s.drop(id)
	c.log.Close() // ends a drain that something left behind holds up
	for _, f := range []*os.File{c.pidfd, c.console} {
		if f != nil {
			f.Close()
		}
	}
	return nil
}

// list is opList.
func (s *Server) list(after string) listAnswer {
	all := s.all()
	sort.Slice(all, func(i, j int) bool { return all[i].id < all[j].id })
	all = all[sort.Search(len(all), func(i int) bool { return all[i].id > after }):]
	var a listAnswer
	if len(all) > listPage {
		all, a.More = all[:listPage], true
	}
	for _, c := range all {
		a.Containers = append(a.Containers, c.describe())
	}
	return a
}

// kill is opKill.
func (s *Server) kill(r KillRequest) error {
	if r.Signal < 0 || r.Signal > 64 || r.After < 0 {
		return fmt.Errorf("kill with signal %d after %s: %w", r.Signal, r.After, errdefs.ErrInvalidArgument)
	}
	c, err := s.find(r.ID)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exit != nil || c.pidfd == nil {
		return nil
	}
	if r.Signal != 0 && r.After > 0 && !c.signaled {
		if err := c.signal(unix.Signal(r.Signal)); err != nil && !errors.Is(err, unix.ESRCH) {
			s.cfg.Log.Warn("signal", "container", c.id, "signal", r.Signal, "error", err)
		}
		c.signaled = true
	}
	at := time.Now().Add(r.After)
	if !c.killAt.IsZero() && !at.Before(c.killAt) {
		return nil // only ever sooner
	}
	if c.killer != nil {
		c.killer.Stop()
	}
	c.killAt = at
	c.killer = time.AfterFunc(r.After, func() { s.killNow(c) })
	return nil
}

// killNow kills the container until it has ended: a process in an
// uninterruptible sleep, or one that forks faster, needs more than one try.
func (s *Server) killNow(c *container) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		c.signal(unix.SIGKILL) // ESRCH: only its children are left
		if c.killCgroup != "" {
			if err := killCgroup(c.killCgroup); err != nil {
				s.cfg.Log.Warn("kill", "container", c.id, "error", err)
			}
		}
		select {
		case <-c.exited:
			return
		case <-time.After(wait):
		}
	}
}
