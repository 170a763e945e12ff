package metrics

import "github.com/berth-cri/berth/runtime/stats"

// detail is the sample's, or an empty one.
func (s *Subject) detail() *stats.Details {
	if s.Sample.Detail == nil {
		return &stats.Details{}
	}
	return s.Sample.Detail
}

// throttled are what only a container with a CPU quota has.
func throttled(name, help string, get func(*stats.Details) *uint64) metric {
	return optional(name, help, counter, func(s *Subject) *uint64 {
		if s.Limits != nil && s.Limits.GetCpuQuota() <= 0 {
			return nil
		}
		return get(s.detail())
	})
}

var cpuMetrics = []metric{
	optional("container_cpu_user_seconds_total", "Cumulative user CPU time consumed in seconds.", counter,
		func(s *Subject) *uint64 { return seconds(s.detail().User) }),
	optional("container_cpu_system_seconds_total", "Cumulative system CPU time consumed in seconds.", counter,
		func(s *Subject) *uint64 { return seconds(s.detail().System) }),
	{
		name: "container_cpu_usage_seconds_total", help: "Cumulative CPU time consumed in seconds.", kind: counter, extra: []string{"cpu"},
		values: func(s *Subject, emit emit) {
			if s.Sample.CPU != nil {
				emit(s.Sample.CPU.Usage/second, "total")
			}
		},
	},
	throttled("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.",
		func(d *stats.Details) *uint64 { return d.Periods }),
	throttled("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.",
		func(d *stats.Details) *uint64 { return d.ThrottledPeriods }),
	throttled("container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.",
		func(d *stats.Details) *uint64 { return seconds(d.ThrottledTime) }),
}
