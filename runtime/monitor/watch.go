package monitor

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/linux"
)

// reapWait bounds the wait for another process (PID 1, a subreaper) to reap an
// adopted container, after which the kernel tells its status.
const reapWait = 15 * time.Second

// watch follows a container to its end and publishes it.
func (s *Server) watch(c *container) {
	x, published, err := ReadExit(c.dir)
	if err != nil || !published {
		x = Exit{ID: c.id, Pid: c.pid}
		s.await(c, &x)
	}
	timer := time.NewTimer(s.cfg.Drain)
	defer timer.Stop()
	select {
	case <-c.drained:
	case <-timer.C: // something that outlived it holds the pipe: that goes on below
	}
	if !published {
		if err = fault.Hit("monitor.exit"); err == nil {
			err = writeExit(c.dir, x)
		}
		if err != nil { // the daemon is told all the same
			s.cfg.Log.Error("write exit", "container", c.id, "error", err)
		}
	}
	s.reap(c.pid)
	c.mu.Lock()
	c.exit = &x
	close(c.exited)
	if c.killer != nil {
		c.killer.Stop()
	}
	closeFiles(&c.stdin)
	c.mu.Unlock()
	s.broadcast(x)
	c.detachAll()

	<-c.drained
	c.log.Close()
	os.Remove(filepath.Join(c.dir, carryFile))
}

// await waits for the process to end and finds out how.
func (s *Server) await(c *container, x *Exit) {
	if c.pidfd == nil {
		x.At = time.Now().UTC()
		x.setUnknown()
		return
	}
	if err := awaitDeath(c.pidfd); err != nil {
		s.cfg.Log.Error("wait for a container", "container", c.id, "error", err)
	}
	x.At = time.Now().UTC()
	ws, ok := s.status(c.pid, c.startTime, c.pidfd)
	if !ok {
		x.setUnknown()
		return
	}
	x.setStatus(ws)
}

// status is how a process that has ended did so. A child stays a zombie until its
// exit is published (reap), so that its status survives this program. An
// adopted process (its parent was a monitor that died) is a zombie until its
// new parent reaps it and shows its status in /proc; after that the kernel tells
// it through a pidfd that was opened before (6.15).
func (s *Server) status(pid int, startTime uint64, pidfd *os.File) (unix.WaitStatus, bool) {
	if got, ws := peek(unix.P_PID, pid); got == pid {
		return ws, true
	}
	for wait, end := time.Millisecond, time.Now().Add(reapWait); time.Now().Before(end); wait = min(2*wait, 200*time.Millisecond) {
		st, err := linux.ReadProcStat(pid)
		same := err == nil && st.StartTime == startTime
		if same && st.State == 'Z' && (st.ExitCode != 0 || seesForeignStatus()) {
			return unix.WaitStatus(st.ExitCode), true
		}
		if ws, ok, err := linux.PidfdExit(pidfd); err == nil && ok {
			return ws, true
		}
		if !same && (err == nil || errors.Is(err, os.ErrNotExist)) {
			return 0, false // reaped, and the kernel did not keep the status
		}
		time.Sleep(wait)
	}
	return 0, false
}

// reap lets a child go whose status is known and safe.
func (s *Server) reap(pid int) {
	ignoringEINTR(func() error {
		_, err := unix.Wait4(pid, nil, unix.WALL|unix.WNOHANG, nil) // ECHILD: adopted
		return err
	})
	s.reaper.forget(pid)
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
