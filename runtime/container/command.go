package container

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/cgroup"
	"github.com/berth-cri/berth/runtime/index"
	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/berth-cri/berth/runtime/oci/embedded"
	"github.com/berth-cri/berth/runtime/spec"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// command is a process that was started in a running container, in a cgroup of
// its own below the container's.
type command struct {
	*monitor.Exec
	service *Service
	c       *Container
	cg      *cgroup.Cgroup
}

// executable finds a container that a command can be started in.
func (s *Service) executable(id string, args []string) (*Container, error) {
	c, err := s.index.Get(id)
	if err != nil {
		return nil, err
	}
	if err := spec.ValidateCommand(args); err != nil {
		return nil, err
	}
	return c, c.CheckRunning("exec")
}

// CheckRunning refuses an event that needs the container's process.
func (c *Container) CheckRunning(e Event) error {
	if st := c.Status().State; st != Running && st != Stopping {
		return &TransitionError{From: st, Event: e}
	}
	return nil
}

// startCommand starts a command with the streams and the timeout of r.
func (s *Service) startCommand(ctx context.Context, c *Container, p embedded.Prepared, r monitor.ExecRequest) (_ *command, err error) {
	plan, err := linux.Memfd("exec-plan", p.Plan)
	if err != nil {
		return nil, fmt.Errorf("prepare exec: %w", err)
	}
	defer plan.Close()
	p.Plan = nil

	r.ContainerID, r.ID, r.Prepared, r.Plan, r.Tied = c.rec.ID, index.NewID(), p, plan, true
	x := &command{service: s, c: c}
	if x.cg, err = execCgroup(s.Cgroups.Load(c.rec.Cgroup), p, "exec-"+r.ID[:16]); err != nil {
		return nil, fmt.Errorf("make cgroup of exec: %w", err)
	}
	r.Cgroup, r.KillCgroup = placement(x.cg), x.cg.KillDir()
	if x.Exec, err = s.monitor.Exec(ctx, r); err != nil {
		x.kill(ctx) // a monitor that died may have started it
		x.close(ctx)
		return nil, precondition(err)
	}
	return x, nil
}

// wait returns how the command ended. When nobody waits for it any more, as the
// client went away or the monitor died, it is killed with all that it started,
// and so it is at its timeout.
func (x *command) wait(ctx context.Context) (monitor.Exit, error) {
	exit, err := x.Wait(ctx)
	if err != nil {
		x.kill(ctx)
		return exit, fmt.Errorf("wait for the command: %w", err)
	}
	if exit.TimedOut {
		x.kill(ctx) // the monitor has; this waits until they are gone
	}
	return exit, nil
}

func (x *command) kill(ctx context.Context) {
	if err := x.cg.Kill(context.WithoutCancel(ctx)); err != nil {
		x.service.Log.Warn("kill exec", "container", x.c.rec.ID, "error", err)
	}
}

// close removes the cgroup, or leaves it to later commands when this one left
// something running in it.
func (x *command) close(ctx context.Context) {
	if x.Exec != nil {
		x.Exec.Close()
	}
	x.c.litter.tidy(context.WithoutCancel(ctx), x.cg)
}

// litter is the cgroups of commands that left something running. Each later
// command looks whether a few of them are empty by now; the rest goes with the
// container. A probe that starts a child each time must not fill the machine.
type litter struct {
	mu   sync.Mutex
	list []*cgroup.Cgroup // guarded by mu
}

const tidyAtOnce = 4

func (l *litter) tidy(ctx context.Context, more *cgroup.Cgroup) {
	l.mu.Lock()
	n := min(len(l.list), tidyAtOnce)
	look := append(slices.Clone(l.list[:n]), more)
	l.list = l.list[n:]
	l.mu.Unlock()
	full := slices.DeleteFunc(look, func(cg *cgroup.Cgroup) bool { return cg.Remove(ctx) == nil })
	if len(full) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, full...)
}

// Spec reads the container's OCI spec. It is not kept in memory: 500 containers
// would cost 15 MiB.
func (c *Container) Spec() (*specs.Spec, error) {
	var sp specs.Spec
	if err := atomicfile.ReadJSON(c.file(specFile), &sp); err != nil {
		return nil, fmt.Errorf("read container spec: %w", err)
	}
	return &sp, nil
}

// prepareExec makes the plan of a command with the container's own environment,
// user, capabilities and working directory.
func (c *Container) prepareExec(command []string) (embedded.Prepared, error) {
	p := c.prepared(c.rec.Exec)
	plan, err := os.ReadFile(c.file(execFile))
	if err != nil {
		return p, err
	}
	p.Plan, err = withCommand(p, plan, command)
	return p, err
}

// prepareTerminalExec is prepareExec for a command with a terminal, whose first
// size is that of the window, if it has told one.
func (c *Container) prepareTerminalExec(args []string, w *window) (embedded.Prepared, error) {
	sp, err := c.Spec()
	if err != nil {
		return embedded.Prepared{}, err
	}
	p := *sp.Process
	p.Env = exactEnv(p.Env, c.rec.Config.GetEnvs())
	p.Args, p.Terminal, p.ConsoleSize = args, true, nil
	if columns, rows, ok := w.now(); ok {
		p.ConsoleSize = &specs.Box{Width: uint(columns), Height: uint(rows)}
	}
	if !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		p.Env = append(slices.Clip(p.Env), "TERM=xterm") // as containerd; a shell without one has no line editing
	}
	return compileExec(c.rec.Launch, sp, &p)
}

// placement is where a process is put into a cgroup.
func placement(cg interface {
	Placement() (dir string, procs []string)
}) embedded.Placement {
	dir, procs := cg.Placement()
	return embedded.Placement{V2Dir: dir, Procs: procs}
}
