package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// storeSocket is the descriptor store's, in the state directory.
const storeSocket = "fdstore.sock"

// openStore finds the living store or starts one.
func (s *Server) openStore(ctx context.Context) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	socket := filepath.Join(s.cfg.StateDir, storeSocket)
	c, err := dial(ctx, socket, s.cfg.Build, func(Exit) {})
	if err == nil || !refused(err) {
		return c, err
	}
	s.forks.RLock()
	defer s.forks.RUnlock()
	f := s.reaper.begin()
	cmd := exec.Command("/proc/self/exe", "store", "--socket", socket)
	cmd.Args[0] = "berth-monitor"
	cmd.Stderr = os.Stderr
	sock, err := detach(cmd)
	if err != nil {
		s.reaper.end(f, 0)
		return nil, err
	}
	s.reaper.end(f, cmd.Process.Pid)
	go func() {
		cmd.Wait()
		s.reaper.forget(cmd.Process.Pid)
	}()
	return newClient(ctx, sock, s.cfg.Build, func(Exit) {})
}

// keepStore replaces the store when it dies, and fills the new one.
func (s *Server) keepStore(ctx context.Context, c *client) {
	for wait := firstBackoff; ; {
		if c != nil {
			select {
			case <-c.closed:
			case <-ctx.Done():
				return
			}
			s.cfg.Log.Warn("lost the descriptor store", "error", c.err)
			s.setStore(nil)
		}
		var err error
		if c, err = s.openStore(ctx); err == nil {
			s.setStore(c)
			for _, k := range s.all() {
				s.holdPipes(k.id, k.dir)
				s.holdProcess(k)
			}
			wait = firstBackoff
			continue
		}
		s.cfg.Log.Error("open the descriptor store", "error", err)
		select {
		case <-time.After(wait):
			wait = min(2*wait, lastBackoff)
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) setStore(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store = c
}

func (s *Server) currentStore() *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store
}

// holdPipes gives the store readers of the outputs of a container.
func (s *Server) holdPipes(id, dir string) {
	var files []sent
	for _, name := range []string{stdoutFIFO, stderrFIFO} {
		f, err := openKeeper(filepath.Join(dir, name), unix.O_RDONLY)
		if err != nil {
			continue // a terminal has none
		}
		defer f.Close()
		files = append(files, sent{name, f})
	}
	s.hold(id, files)
}

// holdProcess gives the store what came with the process.
func (s *Server) holdProcess(c *container) {
	s.hold(c.id, []sent{{filePidfd, c.pidfd}, {fileConsole, c.console}})
}

func (s *Server) hold(id string, files []sent) {
	store := s.currentStore()
	if store == nil {
		return // keepStore says why, and makes up for it
	}
	if err := store.tell(opHold, id, files); err != nil {
		s.cfg.Log.Error("hold descriptors", "container", id, "error", err)
	}
}

// drop makes the store close what it holds for a container.
func (s *Server) drop(id string) {
	if store := s.currentStore(); store != nil {
		store.tell(opDrop, id, nil)
	}
}

// give asks the store for what it holds for a container.
func (s *Server) give(ctx context.Context, id string) map[string]*os.File {
	store := s.currentStore()
	if store == nil {
		return nil
	}
	files, err := store.call(ctx, opGive, target{id}, nil, nil)
	if err != nil {
		s.cfg.Log.Error("take descriptors", "container", id, "error", err)
	}
	return files
}

// tell sends a message that has no answer.
func (c *client) tell(op, id string, files []sent) error {
	e, open := attach(envelope{Op: op}, files)
	return c.send(e, target{id}, open)
}

// refused says that nobody serves a socket.
func refused(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, errGone)
}

// errGone is a peer that went while we were connected.
var errGone = fmt.Errorf("the monitor is gone")
