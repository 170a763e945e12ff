package nri

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cri/berth/runtime/container"
	"github.com/containerd/errdefs"
	"github.com/containerd/nri/pkg/api"
	nrigenerate "github.com/containerd/nri/pkg/runtime-tools/generate"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-tools/generate"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// adjust changes the spec of a container that is being created as plugins wish.
// Limits and the OOM score are returned instead: they go the way that every
// change of limits goes. What the spec then asks for and the runtime cannot do,
// the runtime refuses.
func (s *Service) adjust(sp *specs.Spec, a *api.ContainerAdjustment) (container.Change, error) {
	if a == nil {
		return container.Change{}, nil
	}
	var rest *api.LinuxResources // what of the resources stays for the generator
	change := container.Change{}
	if l := a.Linux; l != nil {
		var err error
		if rest = l.Resources; rest != nil {
			limits := rest.Copy()
			limits.Devices, limits.BlockioClass, limits.RdtClass = nil, nil, nil
			if change, err = changeOf(limits); err != nil {
				return change, err
			}
			l.Resources = &api.LinuxResources{Devices: rest.Devices, BlockioClass: rest.BlockioClass, RdtClass: rest.RdtClass}
		}
		change.OOMScoreAdj = l.OomScoreAdj.Get()
		l.OomScoreAdj = nil
	}
	under := generate.NewFromSpec(sp)
	g := nrigenerate.SpecGenerator(generator{&under},
		nrigenerate.WithCDIDeviceInjector(s.injectCDI),
		nrigenerate.WithRdtResolver(func(class string) (*specs.LinuxIntelRdt, error) {
			return &specs.LinuxIntelRdt{ClosID: class}, nil
		}),
		nrigenerate.WithBlockIOResolver(func(class string) (*specs.LinuxBlockIO, error) {
			return nil, fmt.Errorf("block I/O class %q: there are no classes here: %w", class, errdefs.ErrNotImplemented)
		}),
	)
	if err := g.Adjust(a); err != nil {
		if errdefs.IsUnknown(errdefs.Resolve(err)) { // the generator's own: nothing of the node's
			err = fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		return change, fmt.Errorf("adjust the spec as plugins wish: %w", err)
	}
	complete(sp, a)
	return change, nil
}

// generator is that of the OCI's tools, under the names that NRI's takes.
type generator struct{ *generate.Generator }

func (g generator) Spec() *specs.Spec { return g.Config }

// remove adds what the library leaves out of its answer: variables and devices
// that a plugin takes away. They are gone from the container as the last plugin
// saw it.
func remove(a *api.ContainerAdjustment, sp *specs.Spec, last *api.Container) {
	has := map[string]bool{}
	for _, e := range last.Env {
		name, _, _ := strings.Cut(e, "=")
		has[name] = true
	}
	for _, e := range sp.Process.Env {
		if name, _, _ := strings.Cut(e, "="); !has[name] {
			a.RemoveEnv(name)
		}
	}
	clear(has)
	for _, d := range last.GetLinux().GetDevices() {
		has[d.Path] = true
	}
	for _, d := range sp.Linux.Devices {
		if !has[d.Path] {
			a.RemoveDevice(d.Path)
		}
	}
}

// complete adds what the library's generator leaves out.
func complete(sp *specs.Spec, a *api.ContainerAdjustment) {
	if p := a.GetLinux().GetSeccompPolicy(); p.GetDefaultErrno() != nil {
		n := uint(p.DefaultErrno.Value)
		sp.Linux.Seccomp.DefaultErrnoRet = &n
	}
	// It appends; of a limit that is there twice, the plugin's counts.
	kept := sp.Process.Rlimits[:0]
	for i, l := range sp.Process.Rlimits {
		later := sp.Process.Rlimits[i+1:]
		if !slices.ContainsFunc(later, func(o specs.POSIXRlimit) bool { return o.Type == l.Type }) {
			kept = append(kept, l)
		}
	}
	sp.Process.Rlimits = kept
}

func (s *Service) injectCDI(sp *specs.Spec, names []string) error {
	apply, err := s.settings.Load().CDI.Find(names)
	if err != nil {
		return err
	}
	return apply(sp)
}

// changeOf is a change of limits as a plugin wishes it. What the CRI has words
// for goes in those: so it is in the container's status, and a later update
// knows of it.
func changeOf(r *api.LinuxResources) (container.Change, error) {
	var none container.Change
	switch {
	case r == nil:
		return none, nil
	case len(r.Devices) > 0:
		return none, unsupported("device rules")
	case r.BlockioClass != nil:
		return none, unsupported("a block I/O class")
	case r.RdtClass != nil:
		return none, unsupported("an RDT class")
	}
	c, m := r.GetCpu(), r.GetMemory()
	limits := &runtimeapi.LinuxContainerResources{
		CpuQuota: c.GetQuota().GetValue(), CpuPeriod: int64(c.GetPeriod().GetValue()), CpuShares: int64(c.GetShares().GetValue()),
		CpusetCpus: c.GetCpus(), CpusetMems: c.GetMems(),
		MemoryLimitInBytes: m.GetLimit().GetValue(), MemorySwapLimitInBytes: m.GetSwap().GetValue(),
	}
	for _, h := range r.HugepageLimits {
		limits.HugepageLimits = append(limits.HugepageLimits, &runtimeapi.HugepageLimit{PageSize: h.PageSize, Limit: h.Limit})
	}
	if len(r.Unified) > 0 {
		limits.Unified = r.Unified
	}
	var change container.Change
	if proto.Size(limits) > 0 {
		change.Limits = limits
	}
	more := &specs.LinuxResources{}
	memory := specs.LinuxMemory{
		//lint:ignore SA1019 the kernel may lack it, which the cgroup says
		Reservation: m.GetReservation().Get(), Kernel: m.GetKernel().Get(), KernelTCP: m.GetKernelTcp().Get(),
		Swappiness: m.GetSwappiness().Get(), DisableOOMKiller: m.GetDisableOomKiller().Get(), UseHierarchy: m.GetUseHierarchy().Get(),
	}
	if memory != (specs.LinuxMemory{}) {
		more.Memory = &memory
	}
	cpu := specs.LinuxCPU{RealtimeRuntime: c.GetRealtimeRuntime().Get(), RealtimePeriod: c.GetRealtimePeriod().Get()}
	if cpu != (specs.LinuxCPU{}) {
		more.CPU = &cpu
	}
	if n := r.GetPids().GetLimit(); n != 0 { // 0 is NRI's word for none
		more.Pids = &specs.LinuxPids{Limit: &n}
	}
	if more.Memory != nil || more.CPU != nil || more.Pids != nil {
		change.More = more
	}
	return change, nil
}

func unsupported(what string) error {
	return fmt.Errorf("%s cannot be changed in a container that is there: %w", what, errdefs.ErrNotImplemented)
}
