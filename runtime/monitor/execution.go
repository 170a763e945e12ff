package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci"
)

// execution is a running exec. The monitor copies none of its data.
type execution struct {
	key        execKey
	pid        int
	startTime  uint64
	pidfd      *os.File
	killCgroup string
	cgroup     oci.Placement
	timedOut   atomic.Bool
	log        func(error)
}

// exec is opExec.
func (s *Server) exec(ctx context.Context, owner *session, r ExecRequest) (_ reply, err error) {
	if r.Plan == nil || r.ID == "" || r.Timeout < 0 {
		return reply{}, fmt.Errorf("exec %q with timeout %s: %w", r.ID, r.Timeout, errdefs.ErrInvalidArgument)
	}
	c, err := s.find(r.ContainerID)
	if err != nil {
		return reply{}, err
	}
	if c.hasEnded() || c.pidfd == nil {
		return reply{}, fmt.Errorf("container %s is not running: %w", r.ContainerID, errdefs.ErrFailedPrecondition)
	}
	key := execKey{r.ContainerID, r.ID}
	s.mu.Lock()
	_, taken := s.execs[key]
	if !taken {
		s.execs[key] = struct{}{}
	}
	s.mu.Unlock()
	if taken {
		return reply{}, fmt.Errorf("exec %s in %s: %w", r.ID, r.ContainerID, errdefs.ErrAlreadyExists)
	}
	defer func() {
		if err != nil {
			s.dropExec(key)
		}
	}()
	p, err := s.launch(ctx, oci.Start{
		Prepared: r.Prepared, Plan: r.Plan, Cgroup: r.Cgroup,
		Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, TargetPidfd: c.pidfd,
	})
	if err != nil {
		return reply{}, err
	}
	e := &execution{key: key, pid: p.Pid, startTime: p.StartTime, killCgroup: r.KillCgroup, cgroup: r.Cgroup, log: s.report}
	if e.pidfd, err = pollable(p.Pidfd); err != nil {
		killAndReap(p)
		s.reaper.forget(p.Pid)
		return reply{}, fmt.Errorf("watch the process: %w", err)
	}
	p.Pidfd.Close()
	return reply{
		body:  Started{Pid: p.Pid, StartTime: p.StartTime, At: time.Now().UTC(), OOMScoreAdj: p.OOMScoreAdj},
		files: []sent{{filePidfd, e.pidfd}, {fileConsole, p.Console}},
		then: func() {
			if p.Console != nil {
				p.Console.Close() // the client has it
			}
			go s.watchExec(e, owner, r)
		},
	}, nil
}

func (s *Server) dropExec(key execKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.execs, key)
}

// watchExec follows an exec to its end and tells its owner.
func (s *Server) watchExec(e *execution, owner *session, r ExecRequest) {
	if r.Tied && !owner.tie(e) {
		go e.abandon()
	}
	if r.Timeout > 0 {
		deadline := time.AfterFunc(r.Timeout, func() {
			e.timedOut.Store(true)
			e.kill()
		})
		defer deadline.Stop()
	}
	if err := awaitDeath(e.pidfd); err != nil {
		s.report(fmt.Errorf("wait for exec %s in %s: %w", e.key.id, e.key.container, err))
	}
	x := Exit{ID: e.key.id, ContainerID: e.key.container, Pid: e.pid, At: time.Now().UTC(), TimedOut: e.timedOut.Load()}
	if ws, ok := s.status(e.pid, e.startTime, e.pidfd); ok {
		x.setStatus(ws)
	} else {
		x.setUnknown()
	}
	s.reap(e.pid)
	owner.untie(e)
	s.dropExec(e.key)
	owner.events.add(x)
	e.pidfd.Close()
}

// kill ends the process and everything it started: children of a probe that
// timed out must not pile up in the container.
func (e *execution) kill() {
	linux.PidfdSignal(e.pidfd, sigkill)
	if e.killCgroup == "" {
		return
	}
	if err := killCgroup(e.killCgroup); err != nil {
		e.log(fmt.Errorf("kill exec %s in %s: %w", e.key.id, e.key.container, err))
	}
}

// abandon is kill for an exec whose client has gone, and will not remove its
// cgroups. They are busy until the last process has run its exit to the end.
func (e *execution) abandon() {
	e.kill()
	dirs := []string{e.cgroup.V2Dir}
	for _, procs := range e.cgroup.Procs {
		dirs = append(dirs, filepath.Dir(procs))
	}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		for end := time.Now().Add(killTimeout); errors.Is(linux.Rmdir(dir), unix.EBUSY) && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// tie makes an exec die with the session; false when that has ended.
func (c *session) tie(e *execution) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return false
	}
	c.tied[e] = struct{}{}
	return true
}

func (c *session) untie(e *execution) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tied, e)
}
