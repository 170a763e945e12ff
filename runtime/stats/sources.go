package stats

// source is one controller's files on v1 or v2, and how they are read.
type source struct {
	controller string
	v2         bool
	files      []string
	read       func(*Reader, *Sample, []byte) error
}

// sources has one entry for each thing and each kind of hierarchy.
var sources = []source{
	{"", true, []string{"cpu.pressure", "memory.pressure", "io.pressure"}, readPressure},
	{"cpu", true, []string{"cpu.stat"}, readCPU2},
	{"cpuacct", false, []string{"cpuacct.usage", "cpuacct.usage_user", "cpuacct.usage_sys"}, readCPUAcct},
	{"cpu", false, []string{"cpu.stat"}, readThrottling1},
	{"memory", true, []string{"memory.current", "memory.stat", "memory.max", "memory.swap.current"}, readMemory2},
	{"memory", false, []string{"memory.usage_in_bytes", "memory.stat", "memory.limit_in_bytes", "memory.memsw.usage_in_bytes"}, readMemory1},
	{"pids", true, []string{"pids.current"}, readTasks},
	{"pids", false, []string{"pids.current"}, readTasks},
	{"io", true, []string{"io.stat"}, readIO2},
	{"blkio", false, []string{"blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"}, readIO1},
}

func readCPU2(r *Reader, s *Sample, buf []byte) error {
	b, ok, err := r.bytes("cpu.stat", buf)
	if !ok || err != nil {
		return err
	}
	s.CPU = &CPU{}
	flat(b, func(key []byte, n uint64) {
		switch string(key) {
		case "usage_usec":
			s.CPU.Usage = n * 1000
		case "user_usec":
			s.CPU.User = n * 1000
		case "system_usec":
			s.CPU.System = n * 1000
		case "throttled_usec":
			s.CPU.ThrottledTime = n * 1000
		case "nr_periods":
			s.CPU.Periods = n
		case "nr_throttled":
			s.CPU.ThrottledPeriods = n
		}
	})
	return nil
}

func readCPUAcct(r *Reader, s *Sample, buf []byte) error {
	usage, ok, err := r.number("cpuacct.usage", buf)
	if !ok || err != nil {
		return err
	}
	s.CPU = &CPU{Usage: usage}
	if s.CPU.User, _, err = r.number("cpuacct.usage_user", buf); err != nil {
		return err
	}
	s.CPU.System, _, err = r.number("cpuacct.usage_sys", buf)
	return err
}

// readThrottling1 comes after readCPUAcct: without the usage, no CPU.
func readThrottling1(r *Reader, s *Sample, buf []byte) error {
	b, ok, err := r.bytes("cpu.stat", buf)
	if !ok || err != nil || s.CPU == nil {
		return err
	}
	flat(b, func(key []byte, n uint64) {
		switch string(key) {
		case "throttled_time":
			s.CPU.ThrottledTime = n
		case "nr_periods":
			s.CPU.Periods = n
		case "nr_throttled":
			s.CPU.ThrottledPeriods = n
		}
	})
	return nil
}

// memoryNames are what v1 and v2 call the same things.
type memoryNames struct {
	usage, limit, swap                   string // files
	rss, inactiveFile, fault, majorFault string // in memory.stat
	swapCountsMemory                     bool   // v1's swap file has both
}

var (
	memory2 = memoryNames{
		usage: "memory.current", limit: "memory.max", swap: "memory.swap.current",
		rss: "anon", inactiveFile: "inactive_file", fault: "pgfault", majorFault: "pgmajfault",
	}
	memory1 = memoryNames{
		usage: "memory.usage_in_bytes", limit: "memory.limit_in_bytes", swap: "memory.memsw.usage_in_bytes", swapCountsMemory: true,
		rss: "total_rss", inactiveFile: "total_inactive_file", fault: "total_pgfault", majorFault: "total_pgmajfault",
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
	var inactive uint64
	flat(b, func(key []byte, n uint64) {
		switch string(key) {
		case names.rss:
			m.RSS = n
		case names.inactiveFile:
			inactive = n
		case names.fault:
			m.PageFaults = n
		case names.majorFault:
			m.MajorPageFaults = n
		}
	})
	m.WorkingSet = usage - min(inactive, usage) // both move: never below 0
	s.Memory = m
	return nil
}

func readTasks(r *Reader, s *Sample, buf []byte) error {
	n, ok, err := r.number("pids.current", buf)
	if ok {
		s.Tasks = &n
	}
	return err
}

func readIO2(r *Reader, s *Sample, buf []byte) error {
	b, ok, err := r.bytes("io.stat", buf)
	if ok {
		io := ioStat(b)
		s.IO = &io
	}
	return err
}

func readIO1(r *Reader, s *Sample, buf []byte) error {
	b, ok, err := r.bytes("blkio.throttle.io_service_bytes_recursive", buf)
	if !ok || err != nil {
		return err
	}
	s.IO = &IO{}
	s.IO.ReadBytes, s.IO.WriteBytes = blkio(b)
	if b, _, err = r.bytes("blkio.throttle.io_serviced_recursive", buf); err == nil {
		s.IO.Reads, s.IO.Writes = blkio(b)
	}
	return err
}

func readPressure(r *Reader, s *Sample, buf []byte) error {
	for name, p := range map[string]**Pressure{
		"cpu.pressure": &s.CPUPressure, "memory.pressure": &s.MemoryPressure, "io.pressure": &s.IOPressure,
	} {
		b, ok, err := r.bytes(name, buf)
		if err != nil {
			return err
		}
		if ok {
			*p = pressure(b)
		}
	}
	return nil
}
