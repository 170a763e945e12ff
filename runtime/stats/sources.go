package stats

// source is one controller's files on v1 or v2, and how they are read.
type source struct {
	controller string
	v2         bool
	part       Parts // 0 is in every sample
	files      []string
	read       func(*Reader, *Sample, []byte) error
}

// sources has one entry for each thing and each kind of hierarchy. What comes
// later may rest on what comes before.
var sources = append([]source{
	{"", true, 0, pressureFiles, readPressure},
	{"cpu", true, 0, []string{"cpu.stat"}, readCPU2},
	{"cpuacct", false, 0, []string{"cpuacct.usage"}, readCPUAcct},
	{"memory", true, 0, []string{"memory.current", "memory.stat", "memory.swap.current"}, readMemory2},
	{"memory", false, 0, []string{"memory.usage_in_bytes", "memory.stat"}, readMemory1},
	{"memory", true, Limit, []string{"memory.max"}, readLimit},
	{"memory", false, Limit, []string{"memory.limit_in_bytes"}, readLimit},
	{"pids", true, Tasks, []string{"pids.current"}, readTasks},
	{"pids", false, Tasks, []string{"pids.current"}, readTasks},
}, details...)

func readCPU2(r *Reader, s *Sample, buf []byte) error {
	b, ok, err := r.bytes("cpu.stat", buf)
	if !ok || err != nil {
		return err
	}
	s.CPU = &CPU{}
	flat(b, func(key []byte, n uint64) {
		if string(key) == "usage_usec" {
			s.CPU.Usage = n * 1000
		}
	})
	return nil
}

func readCPUAcct(r *Reader, s *Sample, buf []byte) error {
	usage, ok, err := r.number("cpuacct.usage", buf)
	if ok {
		s.CPU = &CPU{Usage: usage}
	}
	return err
}

// memoryNames are what v1 and v2 call the same things.
type memoryNames struct {
	usage                                                   string // file
	rss, cache, mapped, swap, inactiveFile, fault, majFault string // in memory.stat
}

var (
	memory2 = memoryNames{
		usage: "memory.current",
		rss:   "anon", cache: "file", mapped: "file_mapped", inactiveFile: "inactive_file", fault: "pgfault", majFault: "pgmajfault",
	}
	memory1 = memoryNames{
		usage: "memory.usage_in_bytes",
		rss:   "total_rss", cache: "total_cache", mapped: "total_mapped_file", swap: "total_swap", inactiveFile: "total_inactive_file",
		fault: "total_pgfault", majFault: "total_pgmajfault",
	}
)

func readMemory1(r *Reader, s *Sample, buf []byte) error { return readMemory(r, s, buf, &memory1) }

func readMemory2(r *Reader, s *Sample, buf []byte) error {
	if err := readMemory(r, s, buf, &memory2); err != nil || s.Memory == nil {
		return err
	}
	var err error
	s.Memory.Swap, err = r.value("memory.swap.current", buf)
	return err
}

func readMemory(r *Reader, s *Sample, buf []byte, names *memoryNames) error {
	usage, ok, err := r.number(names.usage, buf)
	if !ok || err != nil {
		return err
	}
	b, _, err := r.bytes("memory.stat", buf)
	if err != nil {
		return err
	}
	s.Memory = &Memory{Usage: usage}
	s.Memory.parse(b, names)
	return nil
}

func readLimit(r *Reader, s *Sample, buf []byte) (err error) {
	if s.Memory == nil {
		return nil
	}
	n, ok, err := r.number("memory.max", buf)
	if !ok && err == nil {
		n, _, err = r.number("memory.limit_in_bytes", buf)
	}
	s.Memory.Limit = n
	return err
}

func (m *Memory) parse(stat []byte, names *memoryNames) {
	var inactive, kernel, parts uint64
	whole := false
	flat(stat, func(key []byte, n uint64) {
		switch string(key) {
		case names.rss:
			m.RSS = n
		case names.cache:
			m.Cache = n
		case names.mapped:
			m.MappedFile = n
		case names.swap: // v1, where the kernel counts swap
			m.Swap = kept(n)
		case names.inactiveFile:
			inactive = n
		case names.fault:
			m.PageFaults = n
		case names.majFault:
			m.MajorPageFaults = n
		case "kernel": // 5.18
			kernel, whole = n, true
		case "kernel_stack", "pagetables", "percpu", "sock", "slab":
			parts += n
		}
	})
	if !whole {
		kernel = parts
	}
	if kernel > 0 {
		m.Kernel = &kernel
	}
	m.WorkingSet = m.Usage - min(inactive, m.Usage) // both move: never below 0
}

func readTasks(r *Reader, s *Sample, buf []byte) error {
	n, ok, err := r.number("pids.current", buf)
	if ok {
		s.Tasks = &n
	}
	return err
}

var pressureFiles = []string{"cpu.pressure", "memory.pressure", "io.pressure"}

func readPressure(r *Reader, s *Sample, buf []byte) error {
	for i, p := range []**Pressure{&s.CPUPressure, &s.MemoryPressure, &s.IOPressure} {
		b, ok, err := r.bytes(pressureFiles[i], buf)
		if err != nil {
			return err
		}
		if ok {
			*p = pressure(b)
		}
	}
	return nil
}
