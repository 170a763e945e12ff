package metrics

import "strconv"

// What the kernel gives a cgroup that nothing was said about.
const (
	defaultPeriod = 100000 // µs
	defaultShares = 1024
)

// spec is a limit as it was asked for; 0 is none.
func spec(name, help string, get func(*Limits) *uint64) metric {
	return optional(name, help, gauge, func(s *Subject) *uint64 {
		if s.Limits == nil {
			return nil
		}
		return get(s.Limits)
	})
}

var specMetrics = []metric{
	spec("container_spec_cpu_period", "CPU period of the container.", func(l *Limits) *uint64 {
		return ptr(otherwise(l.GetCpuPeriod(), defaultPeriod))
	}),
	spec("container_spec_cpu_quota", "CPU quota of the container.", func(l *Limits) *uint64 {
		if l.GetCpuQuota() <= 0 {
			return nil
		}
		return ptr(uint64(l.GetCpuQuota()))
	}),
	spec("container_spec_cpu_shares", "CPU share of the container.", func(l *Limits) *uint64 {
		return ptr(otherwise(l.GetCpuShares(), defaultShares))
	}),
	spec("container_spec_memory_limit_bytes", "Memory limit for the container.", func(l *Limits) *uint64 {
		return ptr(otherwise(l.GetMemoryLimitInBytes(), 0))
	}),
	spec("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", func(l *Limits) *uint64 {
		// Without a word about swap there is none beyond the memory's limit.
		swap := l.GetMemorySwapLimitInBytes()
		if swap == 0 {
			swap = l.GetMemoryLimitInBytes()
		}
		return ptr(otherwise(swap, 0))
	}),
	spec("container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container.", func(l *Limits) *uint64 {
		n, _ := strconv.ParseUint(l.GetUnified()["memory.min"], 10, 64) // "max" is no amount
		return &n
	}),
}

func otherwise(n int64, instead uint64) uint64 {
	if n <= 0 {
		return instead
	}
	return uint64(n)
}
