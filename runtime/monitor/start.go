package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/monitor/logs"
	"github.com/berth-cri/berth/runtime/oci"
)

// start is opStart.
func (s *Server) start(ctx context.Context, r StartRequest, plan *os.File) (_ reply, err error) {
	if plan == nil {
		return reply{}, fmt.Errorf("no plan: %w", errdefs.ErrInvalidArgument)
	}
	if err := s.reserve(r.ID, r.Dir); err != nil {
		return reply{}, err
	}
	began := time.Now()
	var c *container
	defer func() {
		s.settle(r.ID, c)
		if err != nil && r.Trace != "" {
			s.cfg.Log.Warn("container did not start", "container", r.ID, "trace_id", r.Trace, "error", err)
		}
	}()

	if err := os.Remove(filepath.Join(r.Dir, exitFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return reply{}, err
	}
	pipes := &stdio{}
	if !r.Prepared.Terminal && !r.Silent {
		if pipes, err = openStdio(r.Dir, r.Stdin); err != nil {
			return reply{}, fmt.Errorf("open the container's pipes: %w", err)
		}
	}
	defer pipes.closeChild()
	carry := filepath.Join(r.Dir, carryFile)
	log, err := logs.Create(carry, r.Log)
	if err != nil {
		pipes.close()
		return reply{}, err
	}
	undo := func() {
		s.drop(r.ID)
		pipes.close()
		log.Close()
		os.Remove(carry)
	}
	if err := fault.Hit("monitor.start"); err != nil {
		undo()
		return reply{}, err
	}
	s.holdPipes(r.ID, r.Dir) // before there is a writer
	prepared := time.Now()
	p, err := s.launch(ctx, oci.Start{
		Prepared: r.Prepared, Plan: plan, Cgroup: r.Cgroup,
		Stdin: pipes.childIn, Stdout: pipes.childOut, Stderr: pipes.childErr,
	})
	if err != nil {
		undo()
		return reply{}, err
	}
	steps := []StepTime{{"prepare", began, prepared.Sub(began)}, {"init", prepared, time.Since(prepared)}}
	c, err = s.watchNew(r, p, log, pipes)
	if err != nil {
		undo()
		killAndReap(p)
		s.reaper.forget(p.Pid)
		return reply{}, err
	}
	s.holdProcess(c)
	return reply{
		body:  Started{Pid: p.Pid, StartTime: p.StartTime, At: c.at, OOMScoreAdj: p.OOMScoreAdj, Steps: steps},
		files: []sent{{filePidfd, c.pidfd}, {fileConsole, c.console}},
		then:  func() { go s.watch(c) }, // the exit must not overtake the answer
	}, nil
}

// watchNew makes the container of a process that was just started.
func (s *Server) watchNew(r StartRequest, p *oci.Process, log *logs.Log, pipes *stdio) (*container, error) {
	c := &container{
		id: r.ID, dir: r.Dir, pid: p.Pid, startTime: p.StartTime, at: time.Now().UTC(),
		logPath: r.Log, killCgroup: r.KillCgroup, log: log,
		stdin: pipes.stdin, exited: make(chan struct{}),
	}
	outputs := map[logs.Stream]*os.File{logs.Stdout: pipes.stdout, logs.Stderr: pipes.stderr}
	var err error
	if c.pidfd, err = pollable(p.Pidfd); err != nil {
		return nil, fmt.Errorf("watch the process: %w", err)
	}
	if p.Console != nil {
		if outputs[logs.Stdout], c.console, err = terminal(p.Console); err != nil {
			c.pidfd.Close()
			return nil, fmt.Errorf("watch the terminal: %w", err)
		}
		p.Console.Close()
	}
	p.Pidfd.Close()
	c.drain(s.report, outputs)
	return c, nil
}

// report logs what went wrong with nobody waiting for it.
func (s *Server) report(err error) {
	if !errors.Is(err, os.ErrClosed) {
		s.cfg.Log.Error("container", "error", err)
	}
}

// launch forks. The reaper must not take the child of a launch for an orphan.
func (s *Server) launch(ctx context.Context, st oci.Start) (*oci.Process, error) {
	s.forks.RLock()
	defer s.forks.RUnlock()
	f := s.reaper.begin()
	p, err := s.cfg.Runtime.Start(ctx, st)
	if err != nil {
		s.reaper.end(f, 0)
		return nil, err
	}
	s.reaper.end(f, p.Pid)
	if p.Warning != nil {
		s.report(p.Warning)
	}
	return p, nil
}

// killAndReap ends a process that could not be watched.
func killAndReap(p *oci.Process) {
	linux.PidfdSignal(p.Pidfd, unix.SIGKILL)
	unix.Wait4(p.Pid, nil, unix.WALL, nil)
	p.Pidfd.Close()
	if p.Console != nil {
		p.Console.Close()
	}
}

// adopt is opAdopt: a container that another monitor started.
func (s *Server) adopt(ctx context.Context, r AdoptRequest) (err error) {
	if err := s.reserve(r.ID, r.Dir); err != nil {
		return err
	}
	var c *container
	defer func() { s.settle(r.ID, c) }()

	if r.Pidfd == nil || r.Terminal && r.Console == nil {
		held := s.give(ctx, r.ID)
		defer closeAll(held)
		if r.Pidfd == nil {
			r.Pidfd = held[filePidfd]
		}
		if r.Console == nil {
			r.Console = held[fileConsole]
		}
	}
	n := &container{
		id: r.ID, dir: r.Dir, pid: r.Pid, startTime: r.StartTime, at: r.At,
		logPath: r.Log, killCgroup: r.KillCgroup, exited: make(chan struct{}),
	}
	log, lost := logs.Recover(filepath.Join(r.Dir, carryFile), r.Log)
	if log == nil {
		return lost
	}
	if lost != nil {
		s.cfg.Log.Error("recover the log", "container", r.ID, "error", lost)
	}
	n.log = log
	outputs, err := n.adoptStdio(r)
	if err != nil {
		log.Close()
		return err
	}
	if n.pidfd, err = adoptPidfd(r); err != nil {
		s.cfg.Log.Warn("adopt", "container", r.ID, "error", err) // it is gone: watch says how
	}
	n.drain(s.report, outputs)
	s.reaper.know(r.Pid) // a child of ours after an upgrade
	c = n
	s.holdPipes(r.ID, r.Dir)
	s.holdProcess(n)
	go s.watch(c)
	return nil
}

// adoptStdio opens the standard streams of a container that has them open.
func (c *container) adoptStdio(r AdoptRequest) (map[logs.Stream]*os.File, error) {
	outputs := map[logs.Stream]*os.File{}
	if r.Silent {
		return outputs, nil
	}
	if r.Terminal {
		if r.Console == nil {
			return nil, fmt.Errorf("no console: %w", errdefs.ErrInvalidArgument)
		}
		var err error
		outputs[logs.Stdout], c.console, err = terminal(r.Console)
		return outputs, err
	}
	for stream, name := range map[logs.Stream]string{logs.Stdout: stdoutFIFO, logs.Stderr: stderrFIFO} {
		f, err := openReader(filepath.Join(r.Dir, name))
		if err != nil {
			for _, o := range outputs {
				o.Close()
			}
			return nil, fmt.Errorf("open the container's pipes: %w", err)
		}
		outputs[stream] = f
	}
	if r.Stdin {
		// ENXIO: the container has closed its end.
		f, err := openEnd(filepath.Join(r.Dir, stdinFIFO), unix.O_WRONLY|unix.O_NONBLOCK)
		if err == nil {
			c.stdin = f
		}
	}
	return outputs, nil
}

// adoptPidfd is the daemon's pidfd, or a new one for the same process.
func adoptPidfd(r AdoptRequest) (*os.File, error) {
	if r.Pidfd != nil {
		return pollable(r.Pidfd)
	}
	f, err := linux.PidfdOpen(r.Pid)
	if err != nil {
		return nil, err
	}
	// After the open: the number cannot be given away between the two.
	if start, err := linux.StartTime(r.Pid); err != nil || start != r.StartTime {
		f.Close()
		return nil, fmt.Errorf("process %d is another one now: %w", r.Pid, errdefs.ErrNotFound)
	}
	return f, nil
}
