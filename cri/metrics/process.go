package metrics

import (
	"time"

	"github.com/berth-cri/berth/runtime/stats"
)

// processes is a gauge over all processes of a container.
func processes(name, help string, get func(*stats.Processes) uint64) metric {
	return optional(name, help, gauge, func(s *Subject) *uint64 {
		if s.Processes == nil {
			return nil
		}
		return ptr(get(s.Processes))
	})
}

var processMetrics = []metric{
	processes("container_processes", "Number of processes running inside the container.", func(p *stats.Processes) uint64 { return p.Count }),
	processes("container_file_descriptors", "Number of open file descriptors for the container.", func(p *stats.Processes) uint64 { return p.Files }),
	processes("container_sockets", "Number of open sockets for the container.", func(p *stats.Processes) uint64 { return p.Sockets }),
	optional("container_threads", "Number of threads running inside the container.", gauge,
		func(s *Subject) *uint64 { return s.Sample.Tasks }),
	optional("container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero.", gauge,
		func(s *Subject) *uint64 { return s.detail().MaxTasks }),
	{
		name: "container_ulimits_soft", help: "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice.", kind: gauge,
		extra: []string{"ulimit"},
		values: func(s *Subject, emit emit) {
			if s.Files != nil {
				emit(*s.Files, "max_open_files")
			}
		},
	},
	optional("container_last_seen", "Last time a container was seen by the exporter.", gauge, func(s *Subject) *uint64 {
		if s.Started.IsZero() {
			return nil
		}
		return ptr(uint64(time.Now().Unix()))
	}),
	optional("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", gauge, func(s *Subject) *uint64 {
		if s.Started.IsZero() {
			return nil
		}
		return ptr(uint64(s.Started.Unix()))
	}),
}
