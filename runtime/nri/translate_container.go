package nri

import (
	"maps"
	"slices"
	"strings"

	"github.com/berth-cri/berth/runtime/container"
	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// states of NRI, which has none for a container that is being created.
var states = map[container.State]api.ContainerState{
	container.Creating: api.ContainerState_CONTAINER_UNKNOWN,
	container.Created:  api.ContainerState_CONTAINER_CREATED,
	container.Starting: api.ContainerState_CONTAINER_CREATED,
	container.Running:  api.ContainerState_CONTAINER_RUNNING,
	container.Stopping: api.ContainerState_CONTAINER_RUNNING,
	container.Exited:   api.ContainerState_CONTAINER_STOPPED,
	container.Removing: api.ContainerState_CONTAINER_STOPPED,
	container.Gone:     api.ContainerState_CONTAINER_STOPPED,
}

// stateOf takes a container whose start was told for running: a plugin that joins
// between that and the process will not be told again.
func (s *Service) stateOf(c *container.Container) api.ContainerState {
	st := c.Status().State
	if (st == container.Created || st == container.Starting) && s.known.started(c.Record().ID) {
		return api.ContainerState_CONTAINER_RUNNING
	}
	return states[st]
}

// containerOf is a container in the words of NRI, with what of it is in its OCI
// spec. Nothing is shared with either, since the library writes into what it gets.
func (s *Service) containerOf(c *container.Container, sp *specs.Spec) *api.Container {
	r, st := c.Record(), c.Status()
	out := &api.Container{
		Id: r.ID, PodSandboxId: r.Pod, Name: r.Config.GetMetadata().GetName(), State: s.stateOf(c),
		Labels: maps.Clone(r.Config.GetLabels()), Annotations: maps.Clone(r.Config.GetAnnotations()),
		Mounts: api.FromOCIMounts(sp.Mounts), Hooks: api.FromOCIHooks(sp.Hooks),
		Linux: linuxOf(r, sp), Pid: uint32(st.Pid), CreatedAt: r.CreatedAt, StartedAt: st.StartedAt,
		FinishedAt: st.FinishedAt, ExitCode: st.ExitCode, StatusReason: st.Reason, StatusMessage: st.Message,
		Image: imageOf(r),
	}
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	maps.Copy(out.Annotations, sp.Annotations) // which a plugin may have changed
	if p := sp.Process; p != nil {
		out.Args, out.Env = slices.Clone(p.Args), slices.Clone(p.Env)
		out.User = &api.User{Uid: p.User.UID, Gid: p.User.GID, AdditionalGids: slices.Clone(p.User.AdditionalGids)}
		for _, l := range p.Rlimits {
			out.Rlimits = append(out.Rlimits, &api.POSIXRlimit{Type: l.Type, Hard: l.Hard, Soft: l.Soft})
		}
	}
	for _, d := range r.Config.GetCDIDevices() {
		out.CDIDevices = append(out.CDIDevices, &api.CDIDevice{Name: d.GetName()})
	}
	return out
}

func linuxOf(r *container.Record, sp *specs.Spec) *api.LinuxContainer {
	out := &api.LinuxContainer{}
	if p := sp.Process; p != nil {
		out.OomScoreAdj = api.Int(p.OOMScoreAdj)
		out.IoPriority = api.FromOCILinuxIOPriority(p.IOPriority)
		if p.Scheduler != nil {
			out.Scheduler = api.FromOCILinuxScheduler(p.Scheduler)
		}
	}
	if p := r.Config.GetLinux().GetSecurityContext().GetSeccomp(); p != nil {
		out.SeccompProfile = &api.SecurityProfile{
			ProfileType: api.SecurityProfile_ProfileType(p.GetProfileType()), LocalhostRef: p.GetLocalhostRef(),
		}
	}
	l := sp.Linux
	if l == nil {
		return out
	}
	out.Namespaces = api.FromOCILinuxNamespaces(l.Namespaces)
	out.Devices = api.FromOCILinuxDevices(l.Devices)
	out.Resources = api.FromOCILinuxResources(l.Resources, nil)
	out.CgroupsPath = l.CgroupsPath
	out.Sysctl = maps.Clone(l.Sysctl)
	out.NetDevices = api.FromOCILinuxNetDevices(l.NetDevices)
	if l.Seccomp != nil {
		out.SeccompPolicy = api.FromOCILinuxSeccomp(l.Seccomp)
	}
	if t := l.IntelRdt; t != nil {
		out.Rdt = &api.LinuxRdt{
			ClosId: api.String(t.ClosID), Schemata: api.RepeatedString(t.Schemata), EnableMonitoring: api.Bool(t.EnableMonitoring),
		}
	}
	return out
}

// imageOf names the image as the pod does, with the digest of its manifest where
// it came from a registry.
func imageOf(r *container.Record) *api.Image {
	name := r.Config.GetImage().GetUserSpecifiedImage()
	if name == "" {
		name = r.Config.GetImage().GetImage()
	}
	out := &api.Image{Name: name, ConfigDigest: r.ImageID}
	if _, digest, ok := strings.Cut(r.ImageRef, "@"); ok {
		out.Digest = digest
	}
	return out
}
