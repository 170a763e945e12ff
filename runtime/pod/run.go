package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/linux/namespace"
	"github.com/berth-cri/berth/runtime/index"
	"github.com/berth-cri/berth/runtime/spec"
	"github.com/berth-cri/berth/telemetry"
	"github.com/berth-cri/berth/undo"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Run makes a pod sandbox of a valid configuration and returns its id. The same
// pod in the same attempt, asked for again, gets the sandbox under way or the
// finished one: an error would make the kubelet raise the attempt and throw
// the work away (containerd#4604, cri-o#9097).
func (s *Service) Run(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	h, err := s.settings.Load().Handlers.Get(handler)
	if err != nil {
		return "", err
	}
	if o := cfg.GetLinux().GetSecurityContext().GetNamespaceOptions(); spec.UserMapping(o) != nil {
		if err := errors.Join(s.UserNamespaces(), h.UserNamespaces()); err != nil {
			return "", fmt.Errorf("user namespaces are not possible on this node: %w: %w", err, errdefs.ErrFailedPrecondition)
		}
	}
	// Where the driver would put its containers: the first of them is too late to
	// learn that it cannot.
	if _, err := s.Cgroups.Parent(cfg.GetLinux().GetCgroupParent()); err != nil {
		return "", fmt.Errorf("linux.cgroup_parent: %w", err)
	}
	name := Name(cfg.Metadata)
	var now atomic.Pointer[Pod]
	waiting := func() string {
		if p := now.Load(); p != nil && p.step.Load() != nil {
			return fmt.Sprintf("sandbox %s: %s", name, *p.step.Load())
		}
		return "sandbox " + name
	}
	return s.join(ctx, "run "+name, runLimit, waiting, func(ctx context.Context) (string, error) {
		if p, ok := s.index.Named(name); ok {
			r := p.Record()
			switch {
			case r.State == Ready && r.Handler == handler && proto.Equal(r.Config, cfg):
				return r.ID, nil
			case r.State == Creating: // and nobody is at it: what a killed daemon left
				if err := s.undoHalf(ctx, p); err != nil {
					return "", err
				}
			default:
				return "", fmt.Errorf("sandbox %s is there already, %s, as %s: %w", name, r.State, r.ID, errdefs.ErrAlreadyExists)
			}
		}
		id := index.NewID()
		telemetry.Tag(ctx, "pod", id)
		p := &Pod{dir: s.directory(id)}
		s.tellOf(p)
		now.Store(p)
		p.rec.Store(&Record{
			Version: recordVersion, ID: id, Name: name, State: Creating,
			CreatedAt: time.Now().UnixNano(), Handler: handler, Config: cfg,
		})
		return id, s.run(ctx, p)
	})
}

// run makes the sandbox. When a step fails everything is undone; what cannot be
// undone keeps the pod, not ready, for the kubelet's Stop and Remove.
func (s *Service) run(ctx context.Context, p *Pod) (err error) {
	r := p.Record()
	var u undo.Stack
	defer func() {
		if err = u.Run(ctx, err); undo.Failed(err) {
			s.Log.Error("pod sandbox could not be undone", "pod", r.ID, "error", err)
			p.move(Stop)
		}
	}()

	if err := s.index.Add(r.ID, r.Name, p); err != nil {
		return err
	}
	if err := os.Mkdir(p.dir, 0o711); err != nil {
		s.index.Remove(r.ID, r.Name)
		return fmt.Errorf("make pod directory: %w", err)
	}
	// The whole way down is one function, the same as for Stop, so it is pushed
	// once, before the first thing that it frees.
	u.Push("release", func(ctx context.Context) error {
		if err := s.release(ctx, p); err != nil {
			return err
		}
		return s.forget(p)
	})
	if err := p.change(func(*Record) error { return nil }); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context, *Pod) error
	}{
		{"labels", s.makeLabels},
		{"namespaces", s.makeNamespaces},
		{"reaper", s.startReaper}, // before the network: a plugin may look for processes of the pod
		{"network", s.setUpNetwork},
		{"files", s.makeFiles}, // after the network: hosts names the pod's addresses
	} {
		p.at(step.name)
		if err := fault.Hit("pod.run." + step.name); err != nil {
			return err
		}
		within, timed := telemetry.SandboxStart.Begin(ctx, step.name)
		err := step.do(within, p)
		timed.End(err)
		if err != nil {
			return fmt.Errorf("set up %s of pod sandbox: %w", step.name, err)
		}
	}
	return s.open(ctx, p)
}

func (s *Service) makeLabels(_ context.Context, p *Pod) error {
	labels, err := s.SELinux.Pod(p.Record().Config.GetLinux().GetSecurityContext().GetSelinuxOptions())
	p.note(func(r *Record) { r.Labels = labels })
	return err
}

// makeNamespaces pins what the pod does not share with the node.
func (s *Service) makeNamespaces(_ context.Context, p *Pod) error {
	var kinds []namespace.Kind
	for _, k := range []namespace.Kind{namespace.Net, namespace.IPC, namespace.UTS} { // PID comes with the reaper
		if p.Namespace(k) != "" {
			kinds = append(kinds, k)
		}
	}
	cfg := p.Record().Config
	name := cfg.GetHostname()
	if name == "" || !slices.Contains(kinds, namespace.UTS) {
		name = hostname() // the node's: what gethostname(2) says there
	}
	p.note(func(r *Record) { r.Hostname = name })
	sysctls := s.sysctls(p, kinds)
	for k := range cfg.GetLinux().GetSysctls() {
		if err := namespace.CheckSysctl(k, kinds); err != nil {
			return err
		}
	}
	setUp := func() error {
		if slices.Contains(kinds, namespace.UTS) {
			if err := namespace.SetHostname(name); err != nil {
				return err
			}
		}
		for k, v := range sysctls {
			if err := p.Mapping().SetSysctl(k, v); err != nil {
				return err
			}
		}
		return nil
	}
	var err error
	if m := p.Mapping(); m != nil {
		_, err = namespace.PinUser(p.namespaces(), *m, kinds, setUp)
	} else if len(kinds) > 0 {
		_, err = namespace.Pin(p.namespaces(), kinds, setUp)
	}
	return err
}

// sysctls are the pod's own over the node's defaults.
func (s *Service) sysctls(p *Pod, kinds []namespace.Kind) map[string]string {
	all := map[string]string{}
	if slices.Contains(kinds, namespace.Net) {
		for k, v := range s.settings.Load().Sysctls {
			all[k] = v
		}
	}
	for k, v := range p.Record().Config.GetLinux().GetSysctls() {
		all[k] = v
	}
	return all
}

func (s *Service) setUpNetwork(ctx context.Context, p *Pod) error {
	if p.Namespace(namespace.Net) == "" {
		return nil
	}
	network := s.Network
	set := s.settings.Load()
	if h, err := set.Handlers.Get(p.Record().Handler); err == nil && set.Networks[h.Name] != nil {
		network = set.Networks[h.Name]
	}
	res, err := network.Setup(ctx, networkPod(p))
	if err != nil {
		return err
	}
	p.note(func(r *Record) {
		r.Interface = res.Interface
		for _, ip := range res.IPs {
			r.IPs = append(r.IPs, ip.String())
		}
	})
	return nil
}
