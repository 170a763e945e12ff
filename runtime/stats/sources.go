package stats

// source is one controller's files on v1 or v2, and how they are read.
type source struct {
	controller string
	v2         bool
	files      []string
	read       func(*Reader, *Sample, []byte) error
}

// sources is what every Sample has; their files are kept open.
var sources = []source{
	{"", true, pressureFiles, readPressure},
	{"cpu", true, []string{"cpu.stat"}, readCPU2},
	{"cpuacct", false, []string{"cpuacct.usage"}, readCPUAcct},
	{"memory", true, []string{"memory.current", "memory.stat", "memory.max", "memory.swap.current"}, readMemory2},
	{"memory", false, []string{"memory.usage_in_bytes", "memory.stat", "memory.limit_in_bytes", "memory.memsw.usage_in_bytes"}, readMemory1},
	{"pids", true, []string{"pids.current"}, readTasks},
	{"pids", false, []string{"pids.current"}, readTasks},
}

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
	usage, limit, swap                                string // files
	rss, cache, mapped, inactiveFile, fault, majFault string // in memory.stat
	swapCountsMemory                                  bool   // v1's swap file has both
}

var (
	memory2 = memoryNames{
		usage: "memory.current", limit: "memory.max", swap: "memory.swap.current",
		rss: "anon", cache: "file", mapped: "file_mapped", inactiveFile: "inactive_file", fault: "pgfault", majFault: "pgmajfault",
	}
	memory1 = memoryNames{
		usage: "memory.usage_in_bytes", limit: "memory.limit_in_bytes", swap: "memory.memsw.usage_in_bytes", swapCountsMemory: true,
		rss: "total_rss", cache: "total_cache", mapped: "total_mapped_file", inactiveFile: "total_inactive_file",
		fault: "total_pgfault", majFault: "total_pgmajfault",
	}
)

func readMemory2(r *Reader, s *Sample, buf []byte) error { return readMemory(r, s, buf, &memory2) }
func readMemory1(r *Reader, s *Sample, buf []byte) error { return readMemory(r, s, buf, &memory1) }

func readMemory(r *Reader, s *Sample, buf []byte, names *memoryNames) error {
	usage, ok, err := r.number(names.usage, buf)
	if !ok || err != nil {
		return err
	}
	m := &Memory{Usage: usage}
	if m.Limit, _, err = r.number(names.limit, buf); err != nil {
		return err
	}
	swap, ok, err := r.number(names.swap, buf)
	if err != nil {
		return err
	}
	if ok {
		if names.swapCountsMemory {
			swap -= min(swap, usage)
		}
		m.Swap = &swap
	}
	b, _, err := r.bytes("memory.stat", buf)
	if err != nil {
		return err
	}
	m.parse(b, names)
	s.Memory = m
	return nil
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
