package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/imageservice/store"
	"github.com/berth-cri/berth/linux/namespace"
	"github.com/berth-cri/berth/runtime/handler"
	"github.com/berth-cri/berth/runtime/index"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/berth-cri/berth/runtime/rootfs"
	"github.com/berth-cri/berth/runtime/spec"
	"github.com/berth-cri/berth/undo"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// createLimit bounds a creation, which goes on when its caller has gone away.
const createLimit = 2 * time.Minute

// Create makes a container of a valid configuration in a ready pod, and returns
// its id; nothing of it runs. The same container in the same attempt, asked for
// again, gets the one under way or the finished one (see pod.Service.Run).
func (s *Service) Create(ctx context.Context, podID string, cfg *runtimeapi.ContainerConfig) (string, error) {
	p, err := s.Pods.Get(podID)
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s_%s_%d", p.Record().ID, cfg.Metadata.Name, cfg.Metadata.Attempt)
	done := s.flights.DoChan("create "+name, func() (any, error) {
		c, ok := s.index.Named(name)
		switch {
		case !ok:
		case c.Status().State == Created && proto.Equal(c.rec.Config, cfg):
			return c.rec.ID, nil
		case c.Status().State == Creating: // and nobody is at it: what a killed daemon left
			if err := s.takeAway(ctx, c); err != nil {
				return "", err
			}
		default:
			return "", fmt.Errorf("container %s is there already, %s, as %s: %w", name, c.Status().State, c.rec.ID, errdefs.ErrAlreadyExists)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createLimit)
		defer cancel()
		return s.create(ctx, p, name, cfg)
	})
	select {
	case r := <-done:
		id, _ := r.Val.(string)
		return id, r.Err
	case <-ctx.Done():
		return "", fmt.Errorf("wait for container %s: %w", name, ctx.Err())
	}
}

func (s *Service) create(ctx context.Context, p *pod.Pod, name string, cfg *runtimeapi.ContainerConfig) (id string, err error) {
	r := &Record{
		Version: recordVersion, ID: index.NewID(), Name: name, Pod: p.Record().ID,
		CreatedAt: time.Now().UnixNano(), Config: cfg,
	}
	c := newContainer(s.directory(r.ID), r, &Status{Version: recordVersion, State: Creating})
	s.tellOf(c)
	if err := s.index.Add(r.ID, name, c); err != nil {
		return "", err
	}
	var u undo.Stack
	defer func() { err = u.Run(ctx, err) }()
	u.Push("discard container", func(ctx context.Context) error { return s.discard(ctx, c) })
	// After the container is in the index: a stop of the pod either sees it, or
	// has made the pod not ready before this question.
	if err := ready(p); err != nil {
		return "", err
	}
	if err := os.Mkdir(c.dir, 0o711); err != nil {
		return "", fmt.Errorf("make container directory: %w", err)
	}
	img, err := s.holdImage(r)
	if err != nil {
		return "", err
	}
	if err := fault.Hit("container.create.root"); err != nil {
		return "", err
	}
	h, err := s.handler(p)
	if err != nil {
		return "", err
	}
	in, overlay, err := s.describe(h, p, r, img)
	if err != nil {
		return "", precondition(err)
	}
	defer s.Plugins.Hold()()
	sp, err := s.spec(ctx, p, c, in, &u)
	if err != nil {
		return "", precondition(err)
	}
	if err := c.compile(h, sp, overlay); err != nil {
		return "", precondition(err)
	}
	if err := fault.Hit("container.create.record"); err != nil {
		return "", err
	}
	r.RawEnv = rawEnv(cfg)
	if err := atomicfile.WriteJSON(c.file(recordFile), r); err != nil {
		return "", fmt.Errorf("write container record: %w", err)
	}
	if err := c.move(Made, nil); err != nil {
		return "", err
	}
	s.Plugins.ContainerCreated(ctx, c)
	return r.ID, nil
}

// holdImage finds the image and keeps its layers for as long as the container lives.
func (s *Service) holdImage(r *Record) (*store.Image, error) {
	name := r.Config.GetImage().GetImage()
	img, err := s.Images.HoldImage(r.ID, name)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", name, err)
	}
	r.ImageID, r.ImageRef, r.Layers = img.ID, img.ID, img.Layers
	if len(img.RepoDigests) > 0 {
		r.ImageRef = img.RepoDigests[0]
	}
	r.ImageName = imageName(r.Config.GetImage(), img)
	return img, nil
}

// describe gathers what a spec is built from, and fills in the record.
func (s *Service) describe(h *handler.Handler, p *pod.Pod, r *Record, img *store.Image) (spec.Input, rootfs.Overlay, error) {
	var none spec.Input
	layers := s.Images.LayerDirs(img.Layers)
	user, err := s.Rootfs.ResolveUser(layers, img.Config.Config.User, r.Config.GetLinux().GetSecurityContext())
	if err != nil {
		return none, rootfs.Overlay{}, fmt.Errorf("resolve user: %w", err)
	}
	if r.StopSignal, err = spec.StopSignal(r.Config, img.Config.Config.StopSignal); err != nil {
		return none, rootfs.Overlay{}, err
	}
	pr := p.Record()
	if r.Cgroup, err = s.Cgroups.Path(pr.Config.GetLinux().GetCgroupParent(), pr.ID, r.ID); err != nil {
		return none, rootfs.Overlay{}, err
	}
	if dir := pr.Config.GetLogDirectory(); dir != "" && r.Config.GetLogPath() != "" {
		r.LogPath = filepath.Join(dir, r.Config.LogPath)
	}
	target, err := s.target(r)
	if err != nil {
		return none, rootfs.Overlay{}, err
	}
	set := s.settings.Load()
	resolved, err := spec.Resolve(r.Config, set.AppArmor)
	if err != nil {
		return none, rootfs.Overlay{}, err
	}
	if err := s.label(p, r, resolved.Mounts); err != nil {
		return none, rootfs.Overlay{}, err
	}
	if h.PrivilegedWithoutHostDevices {
		resolved.HostDevices, resolved.NoHostDevices = nil, true
	}
	devices, err := spec.CDIDevices(r.Config)
	if err != nil {
		return none, rootfs.Overlay{}, err
	}
	if resolved.CDI, err = set.CDI.Find(devices); err != nil {
		return none, rootfs.Overlay{}, err
	}
	if err := s.imageVolumes(r, resolved.Mounts); err != nil {
		return none, rootfs.Overlay{}, err
	}
	overlay, err := s.Rootfs.Prepare(r.ID, layers, p.Mapping())
	if err != nil {
		return none, rootfs.Overlay{}, fmt.Errorf("make root of container: %w", err)
	}
	if err := s.Rootfs.MakeDirs(overlay, volumes(img.Config.Config, r.Config.GetMounts()), p.Mapping()); err != nil {
		return none, rootfs.Overlay{}, fmt.Errorf("volumes of the image: %w", err)
	}
	namespaces := map[specs.LinuxNamespaceType]string{}
	for k, path := range p.Namespaces() {
		namespaces[pod.SpecType(k)] = path
	}
	return spec.Input{
		Pod: spec.Pod{
			ID: pr.ID, Config: pr.Config, Namespaces: namespaces, User: p.Mapping(), TargetPID: target,
			Hostname:   p.File(pod.HostnameFile),
			Hosts:      p.File(pod.HostsFile),
			ResolvConf: p.File(pod.ResolvConfFile),
			Shm:        p.Shm(),
		},
		Config: r.Config, Image: img.Config.Config, ImageName: r.Config.GetImage().GetImage(),
		User:        spec.User(user),
		CgroupsPath: r.Cgroup,
		Node:        set.Spec,
		Resolved:    resolved,
		Annotations: h.Annotations(pr.Config.GetAnnotations(), r.Config.GetAnnotations()),

		ProcessLabel: r.Labels.Process, MountLabel: r.Labels.Mount,
	}, overlay, nil
}

// target is the PID namespace that the container asks for by another
// container's id; empty when it asks for none.
func (s *Service) target(r *Record) (string, error) {
	o := r.Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if o.GetPid() != runtimeapi.NamespaceMode_TARGET {
		return "", nil
	}
	c, err := s.index.Get(o.GetTargetId())
	if err != nil {
		return "", fmt.Errorf("target of PID namespace: %w", err)
	}
	if c.rec.Pod != r.Pod {
		return "", fmt.Errorf("target container %s is in another pod sandbox: %w", c.rec.ID, errdefs.ErrInvalidArgument)
	}
	if st := c.Status().State; st != Running {
		return "", fmt.Errorf("target container %s is %s: %w", c.rec.ID, st, errdefs.ErrFailedPrecondition)
	}
	path := pidNamespace(c)
	if ok, err := namespace.Is(path); err != nil || !ok {
		return "", fmt.Errorf("target container %s has ended: %w", c.rec.ID, errdefs.ErrFailedPrecondition)
	}
	return path, nil
}

// compile writes the spec three times: for people and external runtimes as
// config.json, for who starts it as the plan of the container and as that of a
// command in it.
func (c *Container) compile(h *handler.Handler, sp *specs.Spec, overlay rootfs.Overlay) error {
	prepared, err := c.prepare(h, sp, overlay)
	if err != nil {
		return fmt.Errorf("compile spec: %w", err)
	}
	b, err := json.Marshal(sp)
	if err != nil {
		return fmt.Errorf("encode spec: %w", err)
	}
	process := *sp.Process
	process.Terminal, process.ConsoleSize = false, nil
	exec, err := compileExec(prepared, sp, &process)
	if err != nil {
		return fmt.Errorf("compile exec: %w", err)
	}
	// Nobody reads them before the record is there, so no rename is needed.
	if err := errors.Join(
		os.WriteFile(c.file(specFile), b, 0o600),
		os.WriteFile(c.file(planFile), prepared.Plan, 0o600),
		os.WriteFile(c.file(execFile), exec.Plan, 0o600),
	); err != nil {
		return fmt.Errorf("write spec: %w", err)
	}
	prepared.Plan, exec.Plan = nil, nil
	c.rec.Launch, c.rec.Exec = prepared, exec
	if sp.Linux != nil && sp.Linux.Resources != nil {
		c.rec.Resources = sp.Linux.Resources
	} else {
		c.rec.Resources = &specs.LinuxResources{}
	}
	u := sp.Process.User
	c.rec.User = &runtimeapi.ContainerUser{Linux: &runtimeapi.LinuxContainerUser{Uid: int64(u.UID), Gid: int64(u.GID)}}
	for _, g := range u.AdditionalGids {
		c.rec.User.Linux.SupplementalGroups = append(c.rec.User.Linux.SupplementalGroups, int64(g))
	}
	return nil
}
