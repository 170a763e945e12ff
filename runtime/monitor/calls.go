package monitor

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berth-cri/berth/linux"
)

// Start starts a container and returns when its program runs. An error means
// that no process is left, except ErrUnavailable: the monitor died meanwhile, so
// empty the cgroup.
func (s *Supervisor) Start(ctx context.Context, r StartRequest) (*Started, error) {
	c, err := s.client(ctx)
	if err != nil {
		return nil, err
	}
	var st Started
	files, err := c.call(ctx, opStart, r, []sent{{filePlan, r.PlanFile}}, &st)
	if err != nil {
		return nil, err // it names its step, and the caller knows the container
	}
	return &st, st.take(files)
}

func (st *Started) take(files map[string]*os.File) error {
	st.Pidfd, st.Console = files[filePidfd], files[fileConsole]
	if st.Pidfd == nil {
		closeAll(files)
		return fmt.Errorf("the monitor sent no pidfd: %w", errdefs.ErrInternal)
	}
	return nil
}

// Take gives pidfd and console of a container again, to a new daemon.
func (s *Supervisor) Take(ctx context.Context, id string) (pidfd, console *os.File, err error) {
	c, err := s.client(ctx)
	if err != nil {
		return nil, nil, err
	}
	files, err := c.call(ctx, opTake, target{id}, nil, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("take %s: %w", id, err)
	}
	return files[filePidfd], files[fileConsole], nil
}

// ReopenLog makes the log file of a running container anew after a rotation.
func (s *Supervisor) ReopenLog(ctx context.Context, id string) error {
	return s.simple(ctx, opReopen, id, target{id})
}

// CloseStdin closes the monitor's end of standard input. The container sees end
// of file when the daemon's keeper is closed too.
func (s *Supervisor) CloseStdin(ctx context.Context, id string) error {
	return s.simple(ctx, opCloseStdin, id, target{id})
}

// Forget drops an exited container, or one whose start nobody remembers.
func (s *Supervisor) Forget(ctx context.Context, id string) error {
	return s.simple(ctx, opForget, id, target{id})
}

// Kill stops a container and returns at once; OnExit tells the end. The wait
// goes on when the daemon dies, and in a new monitor when the monitor dies. A
// container that has ended is no error.
func (s *Supervisor) Kill(ctx context.Context, r KillRequest) error {
	end := time.Now().Add(r.After)
	if err := s.simple(ctx, opKill, r.ID, r); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.stops[r.ID]; !ok || end.Before(old) {
		s.stops[r.ID] = end
	}
	return nil
}

func (s *Supervisor) simple(ctx context.Context, op, id string, body any) error {
	c, err := s.client(ctx)
	if err != nil {
		return err
	}
	if _, err := c.call(ctx, op, body, nil, nil); err != nil {
		return fmt.Errorf("%s %s: %w", op, id, err)
	}
	return nil
}

// List returns what the monitor watches, sorted by id.
func (s *Supervisor) List(ctx context.Context) ([]Container, error) {
	c, err := s.client(ctx)
	if err != nil {
		return nil, err
	}
	return c.list(ctx)
}

func (c *client) list(ctx context.Context) ([]Container, error) {
	var all []Container
	for {
		r := listRequest{}
		if len(all) > 0 {
			r.After = all[len(all)-1].ID
		}
		var page listAnswer
		if _, err := c.call(ctx, opList, r, nil, &page); err != nil {
			return nil, fmt.Errorf("list: %w", err)
		}
		all = append(all, page.Containers...)
		if !page.More || len(page.Containers) == 0 {
			return all, nil
		}
	}
}

// Exec is a process that runs in a container.
type Exec struct {
	Started
	request ExecRequest
	done    chan struct{}
	exit    Exit  // after done
	err     error // after done
}

// Exec starts a process in a running container.
func (s *Supervisor) Exec(ctx context.Context, r ExecRequest) (*Exec, error) {
	c, err := s.client(ctx)
	if err != nil {
		return nil, err
	}
	e := &Exec{request: r, done: make(chan struct{})}
	key := execKey{r.ContainerID, r.ID}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, c.err
	}
	if c.execs[key] != nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("exec %s in %s: %w", r.ID, r.ContainerID, errdefs.ErrAlreadyExists)
	}
	c.execs[key] = e // before the request: the exit may follow the answer at once
	c.mu.Unlock()

	files, err := c.call(ctx, opExec, r, []sent{
		{filePlan, r.Plan}, {fileStdin, r.Stdin}, {fileStdout, r.Stdout}, {fileStderr, r.Stderr},
	}, &e.Started)
	if err == nil {
		err = e.take(files)
	}
	if err != nil {
		c.mu.Lock()
		delete(c.execs, key)
		c.mu.Unlock()
		return nil, err
	}
	return e, nil
}

// Wait returns how the process ended. ErrUnavailable: the monitor died, and with
// it the knowledge; a tied exec is killed then.
func (e *Exec) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-e.done:
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
	if e.err != nil && e.request.Tied {
		e.Kill()
	}
	return e.exit, e.err
}

// Kill ends the process and everything in its cgroup.
func (e *Exec) Kill() error {
	if e.Pidfd != nil {
		linux.PidfdSignal(e.Pidfd, sigkill) // ESRCH: it is gone, its children may not be
	}
	if e.request.KillCgroup == "" {
		return nil
	}
	return killCgroup(e.request.KillCgroup)
}

// Close lets go of pidfd and console; the process goes on.
func (e *Exec) Close() {
	for _, f := range []*os.File{e.Pidfd, e.Console} {
		if f != nil {
			f.Close()
		}
	}
}

func (e *Exec) finish(x Exit, err error) {
	e.exit, e.err = x, err
	close(e.done)
}
