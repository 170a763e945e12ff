package stats

import "time"

// Sample is what a container has used so far, and uses now.
type Sample struct {
	At     time.Time // with Go's monotonic clock
	CPU    *CPU
	Memory *Memory
	IO     *IO
	Tasks  *uint64 // threads, which is what the kernel's limit of "pids" counts

	// Pressure is there on a cgroup2 with PSI.
	CPUPressure, MemoryPressure, IOPressure *Pressure
}

// CPU counts since the cgroup was made; times in nanoseconds.
type CPU struct {
	Usage, User, System uint64

	Periods, ThrottledPeriods, ThrottledTime uint64 // of a quota
}

// Memory is in bytes.
type Memory struct {
	Usage      uint64 // page cache included
	WorkingSet uint64 // Usage without the page cache that goes first: what eviction looks at
	RSS        uint64 // anonymous memory, without mapped files
	Limit      uint64 // 0 is none
	Swap       *uint64

	PageFaults, MajorPageFaults uint64
}

// IO counts since the cgroup was made, over all block devices.
type IO struct {
	ReadBytes, WriteBytes, Reads, Writes uint64
}

// Pressure is the kernel's pressure stall information.
type Pressure struct {
	Some, Full Stall
}

// Stall says for how long some, or all, tasks have waited.
type Stall struct {
	Avg10, Avg60, Avg300 float64 // percent
	Total                uint64  // nanoseconds
}

// NanoCores is the rate of CPU use between two samples of one container, in
// billionths of a core. ok is false when they do not give one.
func NanoCores(older, newer Sample) (n uint64, ok bool) {
	elapsed := newer.At.Sub(older.At)
	if elapsed <= 0 || older.CPU == nil || newer.CPU == nil || newer.CPU.Usage < older.CPU.Usage {
		return 0, false
	}
	used := newer.CPU.Usage - older.CPU.Usage
	return uint64(float64(used) * float64(time.Second) / float64(elapsed)), true
}
