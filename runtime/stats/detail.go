package stats

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// details are the sources of the part Detail: monitoring asks for it every 15 s
// or more, if at all.
var details = []source{
	{"cpu", true, Detail, []string{"cpu.stat"}, readTimes2},
	{"cpuacct", false, Detail, []string{"cpuacct.usage_user", "cpuacct.usage_sys"}, readTimes1},
	{"cpu", false, Detail, []string{"cpu.stat"}, readThrottling1},
	{"memory", true, Detail, []string{"memory.peak", "memory.events"}, readLimits2},
	{"memory", false, Detail, []string{"memory.max_usage_in_bytes", "memory.failcnt", "memory.oom_control", "memory.kmem.usage_in_bytes"}, readLimits1},
	{"pids", true, Detail, []string{"pids.max"}, readMaxTasks},
	{"pids", false, Detail, []string{"pids.max"}, readMaxTasks},
	{"io", true, Detail, []string{"io.stat"}, readDevices2},
	{"blkio", false, Detail, []string{"blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"}, readDevices1},
	{"hugetlb", true, Detail, hugePageFiles(".current"), readHugePages2},
	{"hugetlb", false, Detail, append(hugePageFiles(".usage_in_bytes"), hugePageFiles(".max_usage_in_bytes")...), readHugePages1},
}

func readTimes2(r *Reader, s *Sample, buf []byte) error {
	b, ok, err := r.bytes("cpu.stat", buf)
	if !ok || err != nil {
		return err
	}
	flat(b, func(key []byte, n uint64) {
		us := n * 1000
		switch string(key) {
		case "user_usec":
			s.Detail.User = kept(us)
		case "system_usec":
			s.Detail.System = kept(us)
		case "nr_periods":
			s.Detail.Periods = kept(n)
		case "nr_throttled":
			s.Detail.ThrottledPeriods = kept(n)
		case "throttled_usec":
			s.Detail.ThrottledTime = kept(us)
		}
	})
	return nil
}

// kept moves a number to where a pointer may stay; without it every number of a
// file would be moved there.
func kept(n uint64) *uint64 { return &n }

func readTimes1(r *Reader, s *Sample, buf []byte) (err error) {
	if s.Detail.User, err = r.value("cpuacct.usage_user", buf); err != nil {
		return err
	}
	s.Detail.System, err = r.value("cpuacct.usage_sys", buf)
	return err
}

func readThrottling1(r *Reader, s *Sample, buf []byte) error {
	b, ok, err := r.bytes("cpu.stat", buf)
	if !ok || err != nil {
		return err
	}
	flat(b, func(key []byte, n uint64) {
		switch string(key) {
		case "nr_periods":
			s.Detail.Periods = kept(n)
		case "nr_throttled":
			s.Detail.ThrottledPeriods = kept(n)
		case "throttled_time":
			s.Detail.ThrottledTime = kept(n)
		}
	})
	return nil
}

func readLimits2(r *Reader, s *Sample, buf []byte) (err error) {
	if s.Detail.MaxUsage, err = r.value("memory.peak", buf); err != nil { // 5.19
		return err
	}
	b, _, err := r.bytes("memory.events", buf)
	flat(b, func(key []byte, n uint64) {
		switch string(key) {
		case "max":
			s.Detail.FailCount = kept(n)
		case "oom_kill":
			s.Detail.OOMKills = kept(n)
		}
	})
	return err
}

func readLimits1(r *Reader, s *Sample, buf []byte) (err error) {
	if s.Detail.MaxUsage, err = r.value("memory.max_usage_in_bytes", buf); err != nil {
		return err
	}
	if s.Detail.FailCount, err = r.value("memory.failcnt", buf); err != nil {
		return err
	}
	kernel, err := r.value("memory.kmem.usage_in_bytes", buf)
	if err != nil {
		return err
	}
	if s.Memory != nil {
		s.Memory.Kernel = kernel
	}
	b, _, err := r.bytes("memory.oom_control", buf)
	flat(b, func(key []byte, n uint64) {
		if string(key) == "oom_kill" {
			s.Detail.OOMKills = kept(n)
		}
	})
	return err
}

func readMaxTasks(r *Reader, s *Sample, buf []byte) (err error) {
	s.Detail.MaxTasks, err = r.value("pids.max", buf)
	return err
}

func readDevices2(r *Reader, s *Sample, buf []byte) error {
	b, _, err := r.bytes("io.stat", buf)
	s.Detail.Devices = ioStat(b)
	return err
}

func readDevices1(r *Reader, s *Sample, buf []byte) error {
	b, _, err := r.bytes("blkio.throttle.io_service_bytes_recursive", buf)
	if err != nil {
		return err
	}
	devices := map[[2]uint64]*Device{}
	blkio(b, devices, func(d *Device, operation string, n uint64) {
		switch operation {
		case "Read":
			d.ReadBytes = n
		case "Write":
			d.WriteBytes = n
		case "Discard":
			d.DiscardBytes = n
		}
	})
	if b, _, err = r.bytes("blkio.throttle.io_serviced_recursive", buf); err != nil {
		return err
	}
	blkio(b, devices, func(d *Device, operation string, n uint64) {
		switch operation {
		case "Read":
			d.Reads = n
		case "Write":
			d.Writes = n
		}
	})
	s.Detail.Devices = sorted(devices)
	return nil
}

func readHugePages2(r *Reader, s *Sample, buf []byte) error {
	return readHugePages(r, s, buf, ".current", "")
}

func readHugePages1(r *Reader, s *Sample, buf []byte) error {
	return readHugePages(r, s, buf, ".usage_in_bytes", ".max_usage_in_bytes")
}

func readHugePages(r *Reader, s *Sample, buf []byte, usage, most string) error {
	for _, size := range hugePageSizes() {
		n, ok, err := r.number("hugetlb."+size+usage, buf)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		h := HugePages{Size: size, Usage: n}
		if most != "" {
			if h.Max, err = r.value("hugetlb."+size+most, buf); err != nil {
				return err
			}
		}
		s.Detail.HugePages = append(s.Detail.HugePages, h)
	}
	return nil
}

// hugePageSizes are those of this machine, in the words of the cgroup files.
var hugePageSizes = sync.OnceValue(func() []string {
	entries, _ := os.ReadDir("/sys/kernel/mm/hugepages") // none without huge pages
	var sizes []string
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), "hugepages-")
		kb, err := strconv.ParseUint(strings.TrimSuffix(text, "kB"), 10, 64)
		if !ok || err != nil {
			continue
		}
		units := []string{"KB", "MB", "GB"}
		for len(units) > 1 && kb >= 1024 {
			kb, units = kb/1024, units[1:]
		}
		sizes = append(sizes, strconv.FormatUint(kb, 10)+units[0])
	}
	return sizes
})

func hugePageFiles(suffix string) []string {
	var files []string
	for _, size := range hugePageSizes() {
		files = append(files, "hugetlb."+size+suffix)
	}
	return files
}
