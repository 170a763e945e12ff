package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/namespace"
	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/berth-cri/berth/runtime/oci/embedded"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Reaper is PID 1 of a pod whose containers share a PID namespace: berth-init,
// without image and root file system. The kernel kills the namespace with it.
type Reaper struct {
	Pid       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // clock ticks since boot
	StartedAt int64  `json:"startedAt"` // nanoseconds since the epoch
	Cgroup    string `json:"cgroup"`
}

// Monitor is what a pod needs of the monitor.
type Monitor interface {
	Start(ctx context.Context, r monitor.StartRequest) (*monitor.Started, error)
	Forget(ctx context.Context, id string) error
}

// specTypes are the names of the namespaces in an OCI spec.
var specTypes = map[namespace.Kind]specs.LinuxNamespaceType{
	namespace.User: specs.UserNamespace,
	namespace.Net:  specs.NetworkNamespace,
	namespace.IPC:  specs.IPCNamespace,
	namespace.UTS:  specs.UTSNamespace,
	namespace.PID:  specs.PIDNamespace,
}

// SpecType is the name of a kind of namespace in an OCI spec.
func SpecType(k namespace.Kind) specs.LinuxNamespaceType { return specTypes[k] }

func (s *Service) startReaper(ctx context.Context, p *Pod) error {
	if p.Namespace(namespace.PID) == "" {
		return nil
	}
	r := p.Record()
	var join []embedded.Namespace
	for _, k := range []namespace.Kind{namespace.User, namespace.Net, namespace.IPC, namespace.UTS} {
		if path := p.Namespace(k); path != "" {
			join = append(join, embedded.Namespace{Type: specTypes[k], Path: path})
		}
	}
	user := uint32(embedded.Nobody)
	if m := p.Mapping(); m != nil && (user >= m.UIDs.Length || user >= m.GIDs.Length) {
		user = 0 // of a small user namespace
	}
	process := r.Labels.Process
	if r.Config.GetLinux().GetSecurityContext().GetPrivileged() {
		process = "" // as that of its containers: the policy decides
	}
	prepared, err := embedded.CompileReaper(join, user, process, r.Labels.Mount)
	if err != nil {
		return err
	}
	plan, err := linux.Memfd("reaper-plan", prepared.Plan)
	if err != nil {
		return err
	}
	defer plan.Close()
	path, err := s.Cgroups.Path(r.Config.GetLinux().GetCgroupParent(), r.ID, r.ID)
	if err != nil {
		return err
	}
	// Recorded before it is made, so that a crash leaves no unknown cgroup.
	if err := p.change(func(r *Record) error { r.Reaper = &Reaper{Cgroup: path}; return nil }); err != nil {
		return err
	}
	cg, err := s.Cgroups.Create(ctx, path, &specs.LinuxResources{})
	if err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	dir, procs := cg.Placement()
	prepared.Plan = nil
	started, err := s.monitor.Start(ctx, monitor.StartRequest{
		ID: r.ID, Dir: p.dir, Prepared: prepared, PlanFile: plan,
		Cgroup: embedded.Placement{V2Dir: dir, Procs: procs}, KillCgroup: cg.KillDir(), Silent: true,
	})
	if err != nil {
		return err
	}
	p.keep(started.Pidfd)
	err = p.change(func(r *Record) error {
		r.Reaper = &Reaper{Pid: started.Pid, StartTime: started.StartTime, StartedAt: started.At.UnixNano(), Cgroup: path}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = namespace.PinProcess(p.namespaces(), started.Pid, namespace.PID)
	return err
}

// stopReaper kills it and gives back its cgroup; idempotent.
func (s *Service) stopReaper(ctx context.Context, p *Pod) error {
	r := p.Record()
	if r.Reaper == nil {
		return nil
	}
	cg := s.Cgroups.Load(r.Reaper.Cgroup)
	if err := errors.Join(cg.Kill(ctx), cg.Remove(ctx)); err != nil {
		return fmt.Errorf("stop reaper of pod sandbox: %w", err)
	}
	p.keep(nil)
	if err := s.monitor.Forget(ctx, r.ID); err != nil {
		s.Log.Debug("monitor did not forget", "pod", r.ID, "error", err)
	}
	return nil
}

// Exited takes note that a pod's reaper has ended. Unless the pod is being
// stopped it is not ready from here on: nothing starts in a dead PID namespace.
func (s *Service) Exited(e monitor.Exit) {
	p, err := s.index.Get(e.ID)
	if err != nil || p.Record().State != Ready {
		return
	}
	s.Log.Warn("PID 1 of pod ended", "pod", e.ID, "code", e.Code)
	if err := p.move(Stop); err != nil {
		s.Log.Error("pod", "pod", e.ID, "error", err)
		return
	}
	p.tellEnd()
}

// Adoptable are the reapers that a new monitor must take over. The descriptors
// stay ours.
func (s *Service) Adoptable() []monitor.AdoptRequest {
	var all []monitor.AdoptRequest
	for _, p := range s.index.All() {
		r := p.Record()
		if r.Reaper == nil || r.Reaper.Pid == 0 {
			continue
		}
		p.mu.Lock()
		pidfd := p.pidfd
		p.mu.Unlock()
		if pidfd == nil {
			continue
		}
		all = append(all, monitor.AdoptRequest{
			ID: r.ID, Dir: p.dir, Pid: r.Reaper.Pid, StartTime: r.Reaper.StartTime,
			At: time.Unix(0, r.Reaper.StartedAt), Pidfd: pidfd, KillCgroup: s.Cgroups.Load(r.Reaper.Cgroup).KillDir(), Silent: true,
		})
	}
	return all
}

// keep replaces the descriptor of the reaper.
func (p *Pod) keep(pidfd *os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd != nil {
		p.pidfd.Close()
	}
	p.pidfd = pidfd
}
