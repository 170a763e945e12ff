package metrics

import "github.com/berth-cri/berth/runtime/stats"

// memory is a gauge of what is used now.
func memory(name, help string, get func(*stats.Memory) *uint64) metric {
	return optional(name, help, gauge, func(s *Subject) *uint64 {
		if s.Sample.Memory == nil {
			return nil
		}
		return get(s.Sample.Memory)
	})
}

var memoryMetrics = []metric{
	memory("container_memory_cache", "Number of bytes of page cache memory.",
		func(m *stats.Memory) *uint64 { return &m.Cache }),
	memory("container_memory_rss", "Size of RSS in bytes.",
		func(m *stats.Memory) *uint64 { return &m.RSS }),
	memory("container_memory_kernel_usage", "Size of kernel memory allocated in bytes.",
		func(m *stats.Memory) *uint64 { return m.Kernel }),
	memory("container_memory_mapped_file", "Size of memory mapped files in bytes.",
		func(m *stats.Memory) *uint64 { return &m.MappedFile }),
	memory("container_memory_swap", "Container swap usage in bytes.",
		func(m *stats.Memory) *uint64 { return m.Swap }),
	memory("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed.",
		func(m *stats.Memory) *uint64 { return &m.Usage }),
	memory("container_memory_working_set_bytes", "Current working set in bytes.",
		func(m *stats.Memory) *uint64 { return &m.WorkingSet }),
	optional("container_memory_failcnt", "Number of memory usage hits limits.", counter,
		func(s *Subject) *uint64 { return s.detail().FailCount }),
	optional("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes.", gauge,
		func(s *Subject) *uint64 { return s.detail().MaxUsage }),
	{
		name: "container_memory_failures_total", help: "Cumulative count of memory allocation failures.", kind: counter,
		extra: []string{"failure_type", "scope"},
		values: func(s *Subject, emit emit) {
			m := s.Sample.Memory
			if m == nil {
				return
			}
			for _, scope := range []string{"container", "hierarchy"} { // the kernel counts whole subtrees
				emit(m.PageFaults, "pgfault", scope)
				emit(m.MajorPageFaults, "pgmajfault", scope)
			}
		},
	},
	optional("container_oom_events_total", "Count of out of memory events observed for the container.", counter,
		func(s *Subject) *uint64 { return s.detail().OOMKills }),
	{
		name: "container_hugetlb_usage_bytes", help: "Current hugepage usage in bytes.", kind: gauge, extra: []string{"pagesize"},
		values: func(s *Subject, emit emit) {
			for _, h := range s.detail().HugePages {
				emit(h.Usage, h.Size)
			}
		},
	},
	{
		name: "container_hugetlb_max_usage_bytes", help: "Maximum hugepage usage recorded in bytes.", kind: gauge, extra: []string{"pagesize"},
		values: func(s *Subject, emit emit) {
			for _, h := range s.detail().HugePages {
				if h.Max != nil {
					emit(*h.Max, h.Size)
				}
			}
		},
	},
}

// pressure is one line of one pressure file; some is "waiting", full "stalled".
func pressure(name, help string, of func(*stats.Sample) *stats.Pressure, full bool) metric {
	return optional(name, help, counter, func(s *Subject) *uint64 {
		p := of(&s.Sample)
		if p == nil {
			return nil
		}
		if full {
			return seconds(&p.Full.Total)
		}
		return seconds(&p.Some.Total)
	})
}

func cpuPressure(s *stats.Sample) *stats.Pressure    { return s.CPUPressure }
func memoryPressure(s *stats.Sample) *stats.Pressure { return s.MemoryPressure }
func ioPressure(s *stats.Sample) *stats.Pressure     { return s.IOPressure }

var pressureMetrics = []metric{
	pressure("container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.", cpuPressure, true),
	pressure("container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.", cpuPressure, false),
	pressure("container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.", memoryPressure, true),
	pressure("container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.", memoryPressure, false),
	pressure("container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.", ioPressure, true),
	pressure("container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.", ioPressure, false),
}
