package cri

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/rootfs"
	"github.com/berth-cri/berth/runtime/stats"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The functions below turn readings into the words of the CRI. What a host
// cannot say stays nil: the kubelet takes a zero for the truth.

func cpuUsage(r stats.Reading) *runtimeapi.CpuUsage {
	if r.CPU == nil {
		return nil
	}
	return &runtimeapi.CpuUsage{
		Timestamp:            r.At.UnixNano(),
		UsageCoreNanoSeconds: number(r.CPU.Usage),
		UsageNanoCores:       optional(r.NanoCores),
		Psi:                  psi(r.CPUPressure),
	}
}

// memoryUsage: CRI, available is what is left of the limit; 0 is none.
func memoryUsage(r stats.Reading, limit int64) *runtimeapi.MemoryUsage {
	m := r.Memory
	if m == nil {
		return nil
	}
	u := &runtimeapi.MemoryUsage{
		Timestamp:       r.At.UnixNano(),
		WorkingSetBytes: number(m.WorkingSet),
		UsageBytes:      number(m.Usage),
		RssBytes:        number(m.RSS),
		PageFaults:      number(m.PageFaults),
		MajorPageFaults: number(m.MajorPageFaults),
		Psi:             psi(r.MemoryPressure),
	}
	if limit := uint64(limit); limit > 0 {
		u.AvailableBytes = number(limit - min(limit, m.WorkingSet))
	}
	return u
}

// swapUsage: the CRI's limit counts memory and swap together; without one there
// is nothing to subtract from.
func swapUsage(r stats.Reading, limits *runtimeapi.LinuxContainerResources) *runtimeapi.SwapUsage {
	if r.Memory == nil || r.Memory.Swap == nil {
		return nil
	}
	used := *r.Memory.Swap
	u := &runtimeapi.SwapUsage{Timestamp: r.At.UnixNano(), SwapUsageBytes: number(used)}
	if memory, both := limits.GetMemoryLimitInBytes(), limits.GetMemorySwapLimitInBytes(); memory > 0 && both >= 0 {
		allowed := uint64(max(both, memory) - memory) // without a word about swap there is none
		u.SwapAvailableBytes = number(allowed - min(allowed, used))
	}
	return u
}

func ioUsage(r stats.Reading) *runtimeapi.IoUsage {
	if r.IOPressure == nil { // nothing else is in it
		return nil
	}
	return &runtimeapi.IoUsage{Timestamp: r.At.UnixNano(), Psi: psi(r.IOPressure)}
}

func psi(p *stats.Pressure) *runtimeapi.PsiStats {
	if p == nil {
		return nil
	}
	return &runtimeapi.PsiStats{Full: psiData(p.Full), Some: psiData(p.Some)}
}

func psiData(s stats.Stall) *runtimeapi.PsiData {
	return &runtimeapi.PsiData{Total: s.Total, Avg10: s.Avg10, Avg60: s.Avg60, Avg300: s.Avg300}
}

// layerUsage names the file system as ImageFsInfo does: by that the kubelet
// finds the two together.
func layerUsage(u *rootfs.Usage, mountpoint string) *runtimeapi.FilesystemUsage {
	if u == nil {
		return nil
	}
	return &runtimeapi.FilesystemUsage{
		Timestamp:  u.At.UnixNano(),
		FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: mountpoint},
		UsedBytes:  number(u.Bytes),
		InodesUsed: number(u.Inodes),
	}
}

// networkUsage puts the interface of the pod's addresses first. nil without any:
// the kubelet reads the default interface of whatever is there.
func networkUsage(n *stats.Network, name string) *runtimeapi.NetworkUsage {
	if n == nil || len(n.Interfaces) == 0 {
		return nil
	}
	first := 0
	for i := range n.Interfaces {
		if n.Interfaces[i].Name == name {
			first = i
		}
	}
	u := &runtimeapi.NetworkUsage{Timestamp: n.At.UnixNano()}
	for i, one := range n.Interfaces {
		usage := &runtimeapi.NetworkInterfaceUsage{
			Name:    one.Name,
			RxBytes: number(one.Rx.Bytes), RxErrors: number(one.Rx.Errors),
			TxBytes: number(one.Tx.Bytes), TxErrors: number(one.Tx.Errors),
		}
		if i == first {
			u.DefaultInterface = usage
		} else {
			u.Interfaces = append(u.Interfaces, usage)
		}
	}
	return u
}

func number(n uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: n} }

func optional(n *uint64) *runtimeapi.UInt64Value {
	if n == nil {
		return nil
	}
	return number(*n)
}

// sum adds up the containers of a pod that has no cgroup of its own. Pressure
// cannot be added.
func sum(readings []container.Stats) stats.Reading {
	all := stats.Reading{Sample: stats.Sample{At: time.Now()}}
	add := func(to **uint64, n *uint64) {
		if n == nil {
			return
		}
		if *to == nil {
			*to = new(uint64)
		}
		**to += *n
	}
	for _, r := range readings {
		if r.CPU != nil {
			if all.CPU == nil {
				all.CPU = &stats.CPU{}
			}
			all.CPU.Usage += r.CPU.Usage
		}
		add(&all.NanoCores, r.NanoCores)
		add(&all.Tasks, r.Tasks)
		if m := r.Memory; m != nil {
			if all.Memory == nil {
				all.Memory = &stats.Memory{}
			}
			t := all.Memory
			t.Usage += m.Usage
			t.WorkingSet += m.WorkingSet
			t.RSS += m.RSS
			t.PageFaults += m.PageFaults
			t.MajorPageFaults += m.MajorPageFaults
		}
	}
	return all
}

// collect calls f for each item, on all processors at once, and returns the
// results in the order of the items, without those that are not ok.
func collect[T, R any](items []T, f func(T) (result R, ok bool)) []R {
	results, ok := make([]R, len(items)), make([]bool, len(items))
	var next atomic.Int64
	work := func() {
		for i := next.Add(1) - 1; i < int64(len(items)); i = next.Add(1) - 1 {
			results[i], ok[i] = f(items[i])
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(items)) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
	kept := results[:0]
	for i, r := range results {
		if ok[i] {
			kept = append(kept, r)
		}
	}
	return kept
}
