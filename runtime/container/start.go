package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/linux/namespace"
	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/berth-cri/berth/telemetry"
	"github.com/berth-cri/berth/undo"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Start runs a created container. When it fails the container has exited, with
// code 128, reason StartError and the error as message: kubelet shows both.
func (s *Service) Start(ctx context.Context, id string) error {
	c, err := s.index.Get(id)
	if err != nil {
		return err
	}
	p, err := s.Pods.Get(c.rec.Pod)
	if err != nil {
		return fmt.Errorf("pod sandbox of container: %w", err)
	}
	if _, err := c.Status().State.Next(Start); err != nil {
		return err
	}
	// Half a start helps nobody: it ends by itself, not with the client's patience.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startLimit)
	defer cancel()
	asked := s.Plugins.StartContainer(ctx, c) // while it is created: what waits for a start must not wait for plugins
	// The time is taken before the start: an exit may overtake the reply.
	c.updating.Lock()
	err = c.move(Start, func(st *Status) { st.StartedAt = time.Now().UnixNano() })
	c.updating.Unlock()
	if err != nil {
		return err
	}
	if err = asked; err == nil {
		err = s.start(ctx, c, p)
	}
	if err != nil {
		err = precondition(err)
		s.Log.WarnContext(ctx, "container did not start", "container", c.rec.ID, "pod", c.rec.Pod, "error", err)
		if merr := c.move(Exit, func(st *Status) {
			st.StartedAt = 0
			st.FinishedAt = time.Now().UnixNano()
			st.ExitCode, st.Reason, st.Message = exitStartError, ReasonStartError, err.Error()
		}); merr != nil {
			err = errors.Join(err, merr)
		}
		s.Plugins.StopContainer(ctx, c)
		return err
	}
	s.Plugins.ContainerStarted(ctx, c)
	return nil
}

// startLimit bounds a start: it is fork and exec, a few milliseconds.
const startLimit = time.Minute

func (s *Service) start(ctx context.Context, c *Container, p *pod.Pod) (err error) {
	r := c.rec
	var u undo.Stack
	defer func() { err = u.Run(ctx, err) }()

	if err := ready(p); err != nil {
		return err
	}
	if err := s.checkTarget(c, p); err != nil {
		return err
	}
	l := &live{}
	u.Push("close pipes", func(context.Context) error { l.close(); return nil })
	telemetry.Tag(ctx, "container", r.ID)
	telemetry.Tag(ctx, "pod", r.Pod)
	if !r.Launch.Terminal {
		_, timed := telemetry.ContainerStart.Begin(ctx, "pipes")
		l.keepers, err = s.makePipes(c)
		timed.End(err)
		if err != nil {
			return err
		}
	}
	within, timed := telemetry.ContainerStart.Begin(ctx, "cgroup")
	cg, err := s.Cgroups.Create(within, r.Cgroup, c.Limits().Resources)
	timed.End(err)
	if err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	u.Push("remove cgroup", func(ctx context.Context) error {
		// A monitor that died in the middle may have left a process in it.
		return errors.Join(cg.Kill(ctx), cg.Remove(ctx))
	})
	u.Push("delete container", c.deleteExternal)
	if err := c.owePoststop(); err != nil {
		return err
	}
	u.Push("poststop hooks", func(ctx context.Context) error { s.poststop(ctx, c); return nil })
	plan, err := os.Open(c.file(planFile))
	if err != nil {
		return err
	}
	defer plan.Close()
	if err := fault.Hit("container.start.monitor"); err != nil {
		return err
	}
	within, timed = telemetry.ContainerStart.Begin(ctx, "monitor")
	started, err := s.monitor.Start(within, monitor.StartRequest{
		ID: r.ID, Dir: c.dir, Prepared: c.prepared(r.Launch), PlanFile: plan,
		Cgroup: placement(cg), KillCgroup: cg.KillDir(), Log: r.LogPath, Stdin: r.Config.Stdin,
		Trace: telemetry.TraceID(ctx),
	})
	if err == nil {
		for _, step := range started.Steps {
			telemetry.ContainerStart.Did(within, "monitor."+step.Name, step.At, step.Took)
		}
	}
	timed.End(err)
	if err != nil {
		// cgroup v2 lets the fork into the cgroup fail, v1 the process die there.
		limit := c.Limits().Resources.Memory
		refused := errdefs.IsResourceExhausted(err) && limit != nil && limit.Limit != nil && *limit.Limit > 0
		if oom, _ := cg.OOMKills(); oom > 0 || refused {
			err = fmt.Errorf("the memory limit is too low to start anything in it: %w: %w", err, errdefs.ErrResourceExhausted)
		}
		return err
	}
	l.pidfd, l.console = started.Pidfd, started.Console
	c.hold(l)
	if err := fault.Hit("container.start.record"); err != nil {
		s.Log.Error("container start", "container", r.ID, "error", err) // reconcile finds the process
	}
	err = c.move(Started, func(st *Status) { st.Pid, st.StartTime = started.Pid, started.StartTime })
	if errors.Is(err, errdefs.ErrFailedPrecondition) {
		c.release() // it has exited already, which the exit has recorded
		return nil
	}
	return err
}

// makePipes makes what the container's standard streams are connected to.
func (s *Service) makePipes(c *Container) (*monitor.Keepers, error) {
	r := c.rec
	if err := monitor.MakeFIFOs(c.dir, int(r.Launch.UID), int(r.Launch.GID), r.Config.Stdin); err != nil {
		return nil, err
	}
	if err := s.labelPipes(c); err != nil {
		return nil, err
	}
	return monitor.OpenKeepers(c.dir)
}

// checkTarget sees that the container whose PID namespace is to be joined is
// still the process that it was at creation: a new one has other processes.
func (s *Service) checkTarget(c *Container, p *pod.Pod) error {
	o := c.rec.Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if o.GetTargetId() == "" {
		return nil
	}
	target, err := s.index.Get(o.GetTargetId())
	if err != nil {
		return fmt.Errorf("target of PID namespace: %w", err)
	}
	for _, n := range c.rec.Launch.Join {
		if n.Type != specs.PIDNamespace {
			continue
		}
		if same := n.Path == pidNamespace(target); !same {
			return fmt.Errorf("target container %s has been started anew: %w", target.rec.ID, errdefs.ErrFailedPrecondition)
		}
		if ok, err := namespace.Is(n.Path); err != nil || !ok {
			return fmt.Errorf("target container %s is not running: %w", target.rec.ID, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// pidNamespace is the path of a running container's PID namespace.
func pidNamespace(c *Container) string {
	return filepath.Join("/proc", fmt.Sprint(c.Status().Pid), "ns/pid")
}

// precondition keeps kinds that mean "no such container" to the kubelet from an
// operation that failed for want of a program, a mount source or a device.
func precondition(err error) error {
	if errdefs.IsNotFound(err) || errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("%s: %w", err, errdefs.ErrFailedPrecondition)
	}
	return err
}
