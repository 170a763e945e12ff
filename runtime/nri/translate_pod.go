package nri

import (
	"maps"
	"slices"

	"github.com/berth-cri/berth/linux/namespace"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/containerd/nri/pkg/api"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podOf is a pod in the words of NRI. Nothing in it is shared with the record,
// since the library writes into what it gets.
func podOf(p *pod.Pod) *api.PodSandbox {
	r := p.Record()
	m := r.Config.GetMetadata()
	overhead, sum := r.Config.GetLinux().GetOverhead(), r.Config.GetLinux().GetResources()
	if r.Resources != nil {
		overhead, sum = r.Resources.Overhead, r.Resources.Sum
	}
	out := &api.PodSandbox{
		Id: r.ID, Name: m.GetName(), Uid: m.GetUid(), Namespace: m.GetNamespace(),
		Labels: maps.Clone(r.Config.GetLabels()), Annotations: maps.Clone(r.Config.GetAnnotations()),
		RuntimeHandler: r.Handler, Ips: slices.Clone(r.IPs),
		Linux: &api.LinuxPodSandbox{
			PodOverhead: fromCRI(overhead), PodResources: fromCRI(sum), CgroupParent: r.Config.GetLinux().GetCgroupParent(),
		},
	}
	if r.Reaper != nil {
		out.Pid = uint32(r.Reaper.Pid)
	}
	if !r.Released { // else the paths lead nowhere
		paths := p.Namespaces()
		for _, k := range slices.SortedFunc(maps.Keys(paths), byType) {
			out.Linux.Namespaces = append(out.Linux.Namespaces, &api.LinuxNamespace{Type: string(pod.SpecType(k)), Path: paths[k]})
		}
	}
	return out
}

func byType(a, b namespace.Kind) int {
	if pod.SpecType(a) < pod.SpecType(b) {
		return -1
	}
	return 1
}

// fromCRI says only what the CRI speaks of, where 0 and empty are nothing.
func fromCRI(r *runtimeapi.LinuxContainerResources) *api.LinuxResources {
	if r == nil {
		return nil
	}
	out := &api.LinuxResources{
		Cpu: &api.LinuxCPU{
			Quota: api.Int64(set(r.CpuQuota)), Period: api.UInt64(set(r.CpuPeriod)), Shares: api.UInt64(set(r.CpuShares)),
			Cpus: r.CpusetCpus, Mems: r.CpusetMems,
		},
		Memory:  &api.LinuxMemory{Limit: api.Int64(set(r.MemoryLimitInBytes)), Swap: api.Int64(set(r.MemorySwapLimitInBytes))},
		Unified: maps.Clone(r.Unified),
	}
	for _, h := range r.HugepageLimits {
		out.HugepageLimits = append(out.HugepageLimits, &api.HugepageLimit{PageSize: h.GetPageSize(), Limit: h.GetLimit()})
	}
	return out
}

// set is nil for 0.
func set(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}
