package spec

import (
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// resources translates the limits of the request.
func resources(in *Input, s *specs.Spec) error {
	r, err := Resources(in.Config.GetLinux().GetResources(), in.Node.Host)
	if err != nil {
		return fmt.Errorf("linux.resources: %w", err)
	}
	r.Devices = s.Linux.Resources.Devices
	s.Linux.Resources = r
	return nil
}

// Resources translates limits as they stand in a container's configuration, or
// in a later update of them.
func Resources(r *runtimeapi.LinuxContainerResources, h Host) (*specs.LinuxResources, error) {
	out := &specs.LinuxResources{CPU: cpu(r)}
	var err error
	if out.Memory, err = memory(r, h); err != nil {
		return nil, err
	}
	if out.HugepageLimits, err = hugepages(r, h); err != nil {
		return nil, err
	}
	if u := r.GetUnified(); len(u) > 0 {
		if !h.CgroupV2 {
			return nil, fmt.Errorf("unified: this host has cgroup v1, the keys are those of v2: %w", errdefs.ErrFailedPrecondition)
		}
		out.Unified = maps.Clone(u)
	}
	return out, nil
}

func cpu(r *runtimeapi.LinuxContainerResources) *specs.LinuxCPU {
	c := &specs.LinuxCPU{Cpus: r.GetCpusetCpus(), Mems: r.GetCpusetMems()}
	if v := uint64(r.GetCpuPeriod()); v != 0 {
		c.Period = &v
	}
	if v := r.GetCpuQuota(); v != 0 {
		c.Quota = &v
	}
	if v := uint64(r.GetCpuShares()); v != 0 {
		c.Shares = &v
	}
	if *c == (specs.LinuxCPU{}) {
		return nil
	}
	return c
}

// memory limits memory, and memory together with swap. A container with a limit
// and no word about swap gets none, as containerd does: the kubelet's default is
// that pods do not swap.
func memory(r *runtimeapi.LinuxContainerResources, h Host) (*specs.LinuxMemory, error) {
	limit, swap := r.GetMemoryLimitInBytes(), r.GetMemorySwapLimitInBytes()
	if limit == 0 && swap == 0 {
		return nil, nil
	}
	m := &specs.LinuxMemory{Limit: &limit}
	switch {
	case swap == 0:
		swap = limit
	case !h.Swap && swap != limit:
		return nil, fmt.Errorf("memory_swap_limit_in_bytes: %d: the memory controller of this host does not count swap: %w", swap, errdefs.ErrFailedPrecondition)
	}
	if h.Swap {
		m.Swap = &swap
	}
	return m, nil
}

// hugepages limits huge pages. The kubelet sends a limit of 0 for each size on
// every pod, so where there is no controller those are dropped.
func hugepages(r *runtimeapi.LinuxContainerResources, h Host) ([]specs.LinuxHugepageLimit, error) {
	var out []specs.LinuxHugepageLimit
	for i, l := range r.GetHugepageLimits() {
		switch {
		case slices.Contains(h.HugepageSizes, l.GetPageSize()):
			out = append(out, specs.LinuxHugepageLimit{Pagesize: l.GetPageSize(), Limit: l.GetLimit()})
		case l.GetLimit() == 0:
		case len(h.HugepageSizes) == 0:
			return nil, fmt.Errorf("hugepage_limits[%d]: %d bytes of %s: this host has no hugetlb controller: %w", i, l.GetLimit(), l.GetPageSize(), errdefs.ErrFailedPrecondition)
		default:
			return nil, invalid(fmt.Sprintf("hugepage_limits[%d].page_size", i), l.GetPageSize(), fmt.Sprintf("this host has %v", h.HugepageSizes))
		}
	}
	return out, nil
}
