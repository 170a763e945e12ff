package container

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/berth-cri/berth/runtime/monitor"
)

// exitLimit bounds what is done after an exit.
const exitLimit = 30 * time.Second

// Exited takes note of the end of a container's process: from the monitor, from
// its exit file, or from a pidfd. Only the first counts.
func (s *Service) Exited(e monitor.Exit) {
	c, err := s.index.Get(e.ID)
	if err != nil {
		return // removed meanwhile
	}
	ctx, cancel := context.WithTimeout(context.Background(), exitLimit)
	defer cancel()
	cg := s.Cgroups.Load(c.rec.Cgroup)
	// Before the cgroup goes, and before anybody hears of the exit (containerd#8180).
	oom, err := cg.OOMKills()
	if err != nil && !os.IsNotExist(err) {
		s.Log.Warn("OOM count of container", "container", e.ID, "error", err)
	}
	err = c.move(Exit, func(st *Status) {
		st.Pid, st.StartTime = 0, 0
		st.FinishedAt, st.ExitCode = e.At.UnixNano(), int32(e.Code)
		if st.FinishedAt < st.StartedAt {
			st.FinishedAt = st.StartedAt
		}
		st.Reason, st.Message = reason(e, oom)
	})
	if err != nil {
		return // it was noted before
	}
	c.release()
	// Processes that the container left in a shared PID namespace die with it.
	if err := cg.Kill(ctx); err != nil {
		s.Log.Warn("kill what a container left", "container", e.ID, "error", err)
	}
	if err := c.deleteExternal(ctx); err != nil {
		s.Log.Warn("delete container in its runtime", "container", e.ID, "error", err)
	}
	s.poststop(ctx, c)
	if err := cg.Remove(ctx); err != nil {
		s.Log.Warn("remove cgroup of container", "container", e.ID, "error", err)
	}
	if err := s.monitor.Forget(ctx, e.ID); err != nil {
		s.Log.Debug("monitor did not forget", "container", e.ID, "error", err)
	}
	s.Plugins.StopContainer(ctx, c)
}

// reason is what kubectl shows. Only SIGKILL together with an OOM kill in the
// cgroup is an OOM: a child of the program may have been the victim.
func reason(e monitor.Exit, oom uint64) (reason, message string) {
	switch {
	case !e.Known:
		return ReasonUnknown, "the exit code was lost: monitor and daemon were both gone when the process ended"
	case oom > 0 && e.Code == 137:
		return ReasonOOMKilled, ""
	case e.Code == 0:
		return ReasonCompleted, ""
	}
	return ReasonError, ""
}

// lost makes an exit of a process that is dead and of which the monitor told nothing.
func (s *Service) lost(c *Container) {
	e, ok, err := monitor.ReadExit(c.dir)
	if err != nil {
		s.Log.Warn("exit file", "container", c.rec.ID, "error", err)
	}
	if !ok {
		e = monitor.Exit{ID: c.rec.ID, Code: exitUnknown, At: time.Now()}
	}
	s.Log.Warn("container ended unseen", "container", c.rec.ID, "exit", fmt.Sprintf("%+v", e))
	s.Exited(e)
}
