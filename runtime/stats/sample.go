package stats

import "time"

// Sample is what a cgroup has used so far, and uses now.
type Sample struct {
	At     time.Time // with Go's monotonic clock
	CPU    *CPU
	Memory *Memory
	Tasks  *uint64 // of the part Tasks: threads, which is what the kernel's limit of "pids" counts

	// Pressure is there on a host that has a cgroup2 with PSI.
	CPUPressure, MemoryPressure, IOPressure *Pressure

	Detail *Details // of the part Detail
}

// CPU is the time used since the cgroup was made, in nanoseconds.
type CPU struct {
	Usage uint64
}

// Memory is in bytes.
type Memory struct {
	Usage      uint64 // page cache included
	WorkingSet uint64 // Usage without the page cache that goes first: what eviction looks at
	RSS        uint64 // anonymous memory, without mapped files
	Cache      uint64
	MappedFile uint64
	Limit      uint64 // of the part Limit; 0 is none
	Swap       *uint64
	Kernel     *uint64 // on v1 of the part Detail

	PageFaults, MajorPageFaults uint64
}

// Details are what monitoring wants to know besides, since the cgroup was made.
type Details struct {
	User, System *uint64 // nanoseconds

	Periods, ThrottledPeriods, ThrottledTime *uint64 // of a CPU quota; nanoseconds

	MaxUsage  *uint64 // the largest Memory.Usage ever
	FailCount *uint64 // how often memory has hit its limit
	OOMKills  *uint64

	MaxTasks  *uint64 // 0 is no limit
	Devices   []Device
	HugePages []HugePages
}

// Device is the use of one block device.
type Device struct {
	Major, Minor uint64

	ReadBytes, WriteBytes, DiscardBytes, Reads, Writes uint64
}

// HugePages is the use of huge pages of one size.
type HugePages struct {
	Size  string // "2MB"
	Usage uint64 // bytes
	Max   *uint64
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
