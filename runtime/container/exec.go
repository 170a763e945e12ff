package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/cgroup"
	"github.com/berth-cri/berth/runtime/index"
	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/berth-cri/berth/runtime/oci/embedded"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// outputLimit bounds stdout and stderr of an ExecSync together, in bytes. The
// CRI says 16 MiB each, but the kubelet's client takes 16 MiB for the whole
// reply, so that the rest is the message's framing.
const outputLimit = 16<<20 - 64<<10

// Output is what a command has printed and how it ended.
type Output struct {
	Stdout, Stderr []byte
	Code           int32
}

// ExecSync runs a command in the container to its end. After timeout (0: none)
// everything that it started is killed and the error is DeadlineExceeded, which
// a probe takes for a failure. Output beyond outputLimit is read and dropped.
// ErrFailedPrecondition when the container does not run.
func (s *Service) ExecSync(ctx context.Context, id string, command []string, timeout time.Duration) (*Output, error) {
	c, err := s.index.Get(id)
	if err != nil {
		return nil, err
	}
	if len(command) == 0 || command[0] == "" {
		return nil, fmt.Errorf("cmd is empty: %w", errdefs.ErrInvalidArgument)
	}
	if st := c.Status().State; st != Running && st != Stopping {
		return nil, &TransitionError{From: st, Event: "exec"}
	}
	prepared, err := c.prepareExec(command)
	if err != nil {
		return nil, fmt.Errorf("prepare exec: %w", err)
	}
	plan, err := linux.Memfd("exec-plan", prepared.Plan)
	if err != nil {
		return nil, fmt.Errorf("prepare exec: %w", err)
	}
	defer plan.Close()
	prepared.Plan = nil

	out, err := newCapture(2)
	if err != nil {
		return nil, fmt.Errorf("prepare exec: %w", err)
	}
	defer out.close()
	execID := index.NewID()
	cg, err := s.Cgroups.Load(c.rec.Cgroup).Child("exec-" + execID[:16])
	if err != nil {
		return nil, fmt.Errorf("make cgroup of exec: %w", err)
	}
	defer func() { // what the command left running keeps the cgroup; it goes with the container
		if err := cg.Remove(context.WithoutCancel(ctx)); err != nil {
			s.Log.Debug("remove cgroup of exec", "container", c.rec.ID, "error", err)
		}
	}()
	x, err := s.monitor.Exec(ctx, monitor.ExecRequest{
		ContainerID: c.rec.ID, ID: execID, Prepared: prepared, Plan: plan,
		Cgroup: placement(cg), KillCgroup: cg.KillDir(),
		Stdout: out.write[0], Stderr: out.write[1], Timeout: timeout, Tied: true,
	})
	out.started()
	if err != nil {
		s.killExec(ctx, c, cg) // a monitor that died may have started it
		return nil, precondition(err)
	}
	defer x.Close()
	exit, err := x.Wait(ctx)
	if err != nil { // the client went away, or the monitor died: nobody waits for the command
		s.killExec(ctx, c, cg)
		return nil, fmt.Errorf("wait for the command: %w", err)
	}
	if exit.TimedOut {
		s.killExec(ctx, c, cg) // the monitor has; this waits until they are gone
		return nil, fmt.Errorf("command timed out after %s: %w", timeout, context.DeadlineExceeded)
	}
	printed := out.drain(s.Drain)
	return &Output{Stdout: printed[0], Stderr: printed[1], Code: int32(exit.Code)}, nil
}

func (s *Service) killExec(ctx context.Context, c *Container, cg *cgroup.Cgroup) {
	if err := cg.Kill(context.WithoutCancel(ctx)); err != nil {
		s.Log.Warn("kill exec", "container", c.rec.ID, "error", err)
	}
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
	p := c.rec.Exec
	plan, err := os.ReadFile(c.file(execFile))
	if err != nil {
		return p, err
	}
	p.Plan, err = embedded.WithCommand(plan, command)
	return p, err
}

// placement is where a process is put into a cgroup.
func placement(cg interface {
	Placement() (dir string, procs []string)
}) embedded.Placement {
	dir, procs := cg.Placement()
	return embedded.Placement{V2Dir: dir, Procs: procs}
}

// capture reads the output of a command from pipes into memory, bounded, and
// reads on when the bound is reached so that the command never blocks.
type capture struct {
	read, write []*os.File
	wg          sync.WaitGroup

	mu   sync.Mutex
	room int      // guarded by mu: bytes that may still be kept
	kept [][]byte // guarded by mu: one per pipe
}

func newCapture(pipes int) (*capture, error) {
	c := &capture{room: outputLimit, kept: make([][]byte, pipes)}
	for range pipes {
		r, w, err := linux.Pipe()
		if err != nil {
			c.close()
			return nil, err
		}
		c.read, c.write = append(c.read, r), append(c.write, w)
	}
	return c, nil
}

// started gives up our own write ends, so that the end of the command is the
// end of the stream, and begins to read.
func (c *capture) started() {
	for _, w := range c.write {
		w.Close()
	}
	for i, r := range c.read {
		c.wg.Go(func() {
			buf := pages.Get().(*[]byte)
			defer pages.Put(buf)
			for {
				n, err := r.Read(*buf)
				c.keep(i, (*buf)[:n])
				if err != nil {
					return // end of file, or drain's bound
				}
			}
		})
	}
}

var pages = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

func (c *capture) keep(i int, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b = b[:min(len(b), c.room)]
	c.room -= len(b)
	c.kept[i] = append(c.kept[i], b...)
}

// drain reads what is left, but no longer than limit: a child that the command
// left in the background may hold the pipe open for ever (containerd#9668,
// CVE-2026-53495).
func (c *capture) drain(limit time.Duration) [][]byte {
	for _, r := range c.read {
		if err := r.SetReadDeadline(time.Now().Add(limit)); err != nil && !errors.Is(err, os.ErrClosed) {
			r.Close()
		}
	}
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept
}

func (c *capture) close() {
	for _, f := range append(c.read, c.write...) {
		f.Close()
	}
	c.wg.Wait()
}
