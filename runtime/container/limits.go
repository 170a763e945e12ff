package container

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/runtime/oci/embedded"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Limits is what a container may use. limits.json holds them once they differ
// from those of the record. A value that was handed out is never changed.
type Limits struct {
	Version     int                                 `json:"version"`
	Config      *runtimeapi.LinuxContainerResources `json:"config"`    // nil: nothing was asked for
	Resources   *specs.LinuxResources               `json:"resources"` // the same, as the cgroup gets it
	OOMScoreAdj *int                                `json:"oomScoreAdj,omitempty"`
}

// Limits returns what the container may use now.
func (c *Container) Limits() *Limits {
	if l := c.limits.Load(); l != nil {
		return l
	}
	return &Limits{
		Version: recordVersion, Config: c.rec.Config.GetLinux().GetResources(),
		Resources: c.rec.Resources, OOMScoreAdj: c.rec.Launch.OOMScoreAdj,
	}
}

// prepared is a launch with the limits of now.
func (c *Container) prepared(p embedded.Prepared) embedded.Prepared {
	if l := c.limits.Load(); l != nil {
		p.OOMScoreAdj = l.OOMScoreAdj
	}
	return p
}

func (c *Container) loadLimits() error {
	var l Limits
	err := atomicfile.ReadJSON(c.file(limitsFile), &l)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && (l.Version != recordVersion || l.Resources == nil) {
		err = fmt.Errorf("container limits, version %d", l.Version)
	}
	if err == nil {
		c.limits.Store(&l)
	}
	return err
}

// storeLimits makes the limits those of the container: for people and other
// runtimes in the spec, then, which is what counts, in limits.json.
func (c *Container) storeLimits(l *Limits) error {
	sp, err := c.Spec()
	if err != nil {
		return err
	}
	sp.Linux.Resources, sp.Process.OOMScoreAdj = l.Resources, l.OOMScoreAdj
	if err := atomicfile.WriteJSON(c.file(specFile), sp); err != nil {
		return fmt.Errorf("write container spec: %w", err)
	}
	return c.writeLimits(l)
}

func (c *Container) writeLimits(l *Limits) error {
	if err := atomicfile.WriteJSON(c.file(limitsFile), l); err != nil {
		return fmt.Errorf("write container limits: %w", err)
	}
	c.limits.Store(l)
	return nil
}

// Change is what an update speaks of; nil, and in Limits 0 and empty, stays.
type Change struct {
	Limits      *runtimeapi.LinuxContainerResources
	OOMScoreAdj *int
	// More are limits that the CRI has no words for; plugins set them. Devices
	// are not among them.
	More *specs.LinuxResources
}

func (c Change) empty() bool { return c == Change{} }

// carry takes over the limits that the CRI has no words for.
func carry(to, from *specs.LinuxResources) {
	if from == nil {
		return
	}
	set(&to.Pids, from.Pids)
	set(&to.BlockIO, from.BlockIO)
	set(&to.Network, from.Network)
	if len(from.Rdma) > 0 {
		to.Rdma = from.Rdma
	}
	if m := from.Memory; m != nil {
		now := specs.LinuxMemory{}
		if to.Memory != nil {
			now = *to.Memory
		}
		set(&now.Reservation, m.Reservation)
		//lint:ignore SA1019 deprecated, but plugins may say it
		set(&now.Kernel, m.Kernel)
		set(&now.KernelTCP, m.KernelTCP)
		set(&now.Swappiness, m.Swappiness)
		set(&now.DisableOOMKiller, m.DisableOOMKiller)
		set(&now.UseHierarchy, m.UseHierarchy)
		if now != (specs.LinuxMemory{}) {
			to.Memory = &now
		}
	}
	if c := from.CPU; c != nil {
		now := specs.LinuxCPU{}
		if to.CPU != nil {
			now = *to.CPU
		}
		set(&now.RealtimeRuntime, c.RealtimeRuntime)
		set(&now.RealtimePeriod, c.RealtimePeriod)
		set(&now.Burst, c.Burst)
		set(&now.Idle, c.Idle)
		if now != (specs.LinuxCPU{}) {
			to.CPU = &now
		}
	}
}

func set[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}

// merged are the limits after a change, in which, as in the CRI, what is 0 or
// empty is not spoken of.
func merged(old, change *runtimeapi.LinuxContainerResources) *runtimeapi.LinuxContainerResources {
	l := proto.CloneOf(old)
	if l == nil {
		l = &runtimeapi.LinuxContainerResources{}
	}
	for _, n := range []struct {
		to   *int64
		with int64
	}{
		{&l.CpuPeriod, change.GetCpuPeriod()}, {&l.CpuQuota, change.GetCpuQuota()}, {&l.CpuShares, change.GetCpuShares()},
		{&l.OomScoreAdj, change.GetOomScoreAdj()}, {&l.MemorySwapLimitInBytes, change.GetMemorySwapLimitInBytes()},
	} {
		if n.with != 0 {
			*n.to = n.with
		}
	}
	if memory := change.GetMemoryLimitInBytes(); memory != 0 {
		// A container that may not swap stays so: its limit of both follows.
		if change.GetMemorySwapLimitInBytes() == 0 && l.MemorySwapLimitInBytes == l.MemoryLimitInBytes {
			l.MemorySwapLimitInBytes = memory
		}
		l.MemoryLimitInBytes = memory
	}
	if c := change.GetCpusetCpus(); c != "" {
		l.CpusetCpus = c
	}
	if m := change.GetCpusetMems(); m != "" {
		l.CpusetMems = m
	}
	for _, h := range change.GetHugepageLimits() {
		l.HugepageLimits = slices.DeleteFunc(l.HugepageLimits, func(o *runtimeapi.HugepageLimit) bool { return o.GetPageSize() == h.GetPageSize() })
		l.HugepageLimits = append(l.HugepageLimits, h)
	}
	if u := change.GetUnified(); len(u) > 0 {
		if l.Unified == nil {
			l.Unified = map[string]string{}
		}
		maps.Copy(l.Unified, u)
	}
	return l
}
