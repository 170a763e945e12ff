package embedded

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
	"github.com/berth-cri/berth/runtime/oci/hooks"
)

// Where berth-init pauses for hooks.
const (
	pauseCreate = 1 // everything is mounted, and the root is still the host's
	pauseStart  = 2 // the root is the container's
)

// createHooks come when the container is made and before its root is its own:
// prestart and createRuntime on the host, createContainer in the container's
// namespaces with the host's paths (config.md, "POSIX-platform Hooks").
func (c *compilation) createHooks() error {
	h := c.spec.Hooks
	//lint:ignore SA1019 Prestart is deprecated, but specs still have it
	if h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 {
		c.add(&plan.Pause{Stage: pauseCreate})
	}
	return nil
}

// startHooks are those in the container.
func (c *compilation) startHooks() error {
	if h := c.spec.Hooks; h != nil && len(h.StartContainer) > 0 {
		c.add(&plan.Pause{Stage: pauseStart})
	}
	return nil
}

// paused runs the hooks of a stage while berth-init waits, and lets it go on.
func (l *Launcher) paused(ctx context.Context, c *child, s Start, stage uint32) error {
	set, err := loadHooks(s)
	if err != nil {
		return err
	}
	status := specs.StateCreating
	if stage == pauseStart {
		status = specs.StateCreated
	}
	state, err := set.State(status, c.pid)
	if err != nil {
		return err
	}
	if stage == pauseCreate {
		//lint:ignore SA1019 Prestart is deprecated, but specs still have it
		if err := hooks.Run(ctx, "prestart", set.Prestart, state); err != nil {
			return err
		}
		if err := hooks.Run(ctx, "createRuntime", set.CreateRuntime, state); err != nil {
			return err
		}
		err = l.inside(ctx, c, s, "createContainer", set.CreateContainer, state)
	} else {
		err = l.inside(ctx, c, s, "startContainer", set.StartContainer, state)
	}
	if err != nil {
		return err
	}
	message, err := plan.Release{}.Append(nil)
	if err == nil {
		_, err = c.control.Write(message)
	}
	return stepError("control socket", err)
}

func loadHooks(s Start) (*hooks.Set, error) {
	if s.Prepared.Hooked == nil {
		return nil, &StepError{Step: "hooks", Detail: "the bundle is not known"}
	}
	return hooks.Load(s.Prepared.Hooked)
}

// poststart runs when the program does. A failure is only told.
func poststart(ctx context.Context, s Start, pid int) error {
	if s.Prepared.Hooked == nil {
		return nil
	}
	set, err := loadHooks(s)
	if err != nil {
		return err
	}
	state, err := set.State(specs.StateRunning, pid)
	if err != nil {
		return err
	}
	return hooks.Run(ctx, "poststart", set.Poststart, state)
}

// inside runs hooks in the namespaces of the waiting berth-init, in its cgroup, as
// root with all capabilities there.
func (l *Launcher) inside(ctx context.Context, c *child, s Start, kind string, list []specs.Hook, state []byte) error {
	for _, h := range list {
		ctx, cancel := hooks.Limit(ctx, h)
		err := l.runInside(ctx, c, s, h, state)
		cancel()
		if err != nil {
			return hooks.Failed(kind, h, err)
		}
	}
	return nil
}

func (l *Launcher) runInside(ctx context.Context, c *child, s Start, h specs.Hook, state []byte) (err error) {
	p := compilation{prepared: Prepared{Join: slices.DeleteFunc(slices.Clone(s.Prepared.Join), func(n Namespace) bool {
		return n.Type != specs.UserNamespace // the others are the target's
	})}}
	args := []string{h.Path}
	if len(h.Args) > 1 {
		args = append(args, h.Args[1:]...)
	}
	p.add(
		&plan.Keyring{}, &plan.Join{Flags: unix.CLONE_NEWNS}, &plan.Session{}, &plan.Chdir{Path: "/"}, &plan.Umask{Mask: 0o022},
		&plan.Program{Args: args, Env: h.Env}, &plan.Exec{},
	)
	prepared, err := p.finish()
	if err != nil {
		return err
	}
	steps, err := linux.Memfd("hook-plan", prepared.Plan)
	if err != nil {
		return err
	}
	defer steps.Close()
	stdin, err := linux.Memfd("hook-state", state)
	if err != nil {
		return err
	}
	defer stdin.Close()
	r, w, err := linux.Pipe()
	if err != nil {
		return err
	}
	words := make(chan string, 1)
	go func() {
		defer r.Close()
		b, _ := io.ReadAll(io.LimitReader(r, 4<<10))
		words <- string(b)
		_, _ = io.Copy(io.Discard, r)
	}()
	hook, err := l.Start(ctx, Start{
		Prepared: prepared, Plan: steps, Cgroup: s.Cgroup, Stdin: stdin, Stdout: w, Stderr: w, TargetPidfd: c.pidfd,
	})
	w.Close()
	if err != nil {
		return err
	}
	defer hook.Pidfd.Close()
	stop := context.AfterFunc(ctx, func() { _ = linux.PidfdSignal(hook.Pidfd, unix.SIGKILL) })
	status, err := waitFor(hook)
	stop()
	switch {
	case err != nil:
		return err
	case status == 0:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	_ = r.SetReadDeadline(time.Now().Add(time.Second)) // something that it left holds the pipe
	return hooks.WithWords(describeEnd(status), <-words)
}

func waitFor(p *Process) (status unix.WaitStatus, err error) {
	for {
		if _, err = unix.Wait4(p.Pid, &status, unix.WALL, nil); err != unix.EINTR {
			return status, os.NewSyscallError("wait4", err)
		}
	}
}

func describeEnd(s unix.WaitStatus) error {
	if s.Signaled() {
		return fmt.Errorf("ended by signal %d", s.Signal())
	}
	return fmt.Errorf("exit status %d", s.ExitStatus())
}
