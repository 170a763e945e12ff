package metrics

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cri/berth/runtime/stats"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The names that critest asks for (cri-tools, pkg/validate/pod.go), with the
// labels that cAdvisor gives them beside its own six.
var expected = map[string]string{
	"container_blkio_device_usage_total":               "device major minor operation",
	"container_cpu_cfs_periods_total":                  "",
	"container_cpu_cfs_throttled_periods_total":        "",
	"container_cpu_cfs_throttled_seconds_total":        "",
	"container_cpu_system_seconds_total":               "",
	"container_cpu_usage_seconds_total":                "cpu",
	"container_cpu_user_seconds_total":                 "",
	"container_file_descriptors":                       "",
	"container_fs_inodes_free":                         "device",
	"container_fs_inodes_total":                        "device",
	"container_fs_limit_bytes":                         "device",
	"container_fs_reads_bytes_total":                   "device",
	"container_fs_reads_total":                         "device",
	"container_fs_usage_bytes":                         "device",
	"container_fs_writes_bytes_total":                  "device",
	"container_fs_writes_total":                        "device",
	"container_hugetlb_max_usage_bytes":                "pagesize",
	"container_hugetlb_usage_bytes":                    "pagesize",
	"container_last_seen":                              "",
	"container_memory_cache":                           "",
	"container_memory_failcnt":                         "",
	"container_memory_failures_total":                  "failure_type scope",
	"container_memory_kernel_usage":                    "",
	"container_memory_mapped_file":                     "",
	"container_memory_max_usage_bytes":                 "",
	"container_memory_rss":                             "",
	"container_memory_swap":                            "",
	"container_memory_usage_bytes":                     "",
	"container_memory_working_set_bytes":               "",
	"container_network_receive_bytes_total":            "interface",
	"container_network_receive_errors_total":           "interface",
	"container_network_receive_packets_dropped_total":  "interface",
	"container_network_receive_packets_total":          "interface",
	"container_network_transmit_bytes_total":           "interface",
	"container_network_transmit_errors_total":          "interface",
	"container_network_transmit_packets_dropped_total": "interface",
	"container_network_transmit_packets_total":         "interface",
	"container_oom_events_total":                       "",
	"container_pressure_cpu_stalled_seconds_total":     "",
	"container_pressure_cpu_waiting_seconds_total":     "",
	"container_pressure_io_stalled_seconds_total":      "",
	"container_pressure_io_waiting_seconds_total":      "",
	"container_pressure_memory_stalled_seconds_total":  "",
	"container_pressure_memory_waiting_seconds_total":  "",
	"container_processes":                              "",
	"container_sockets":                                "",
	"container_spec_cpu_period":                        "",
	"container_spec_cpu_quota":                         "",
	"container_spec_cpu_shares":                        "",
	"container_spec_memory_limit_bytes":                "",
	"container_spec_memory_reservation_limit_bytes":    "",
	"container_spec_memory_swap_limit_bytes":           "",
	"container_start_time_seconds":                     "",
	"container_threads":                                "",
	"container_threads_max":                            "",
	"container_ulimits_soft":                           "ulimit",
}

func TestDescriptors(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range Descriptors() {
		extra, ok := expected[d.Name]
		if !ok || seen[d.Name] || d.Help == "" {
			t.Errorf("%v", d)
		}
		seen[d.Name] = true
		want := append([]string{"container", "id", "image", "name", "namespace", "pod"}, strings.Fields(extra)...)
		if !slices.Equal(d.LabelKeys, want) {
			t.Errorf("%s: labels %v, want %v", d.Name, d.LabelKeys, want)
		}
	}
	if len(seen) != len(expected) {
		t.Errorf("%d names, want %d", len(seen), len(expected))
	}
}

func u(n uint64) *uint64 { return &n }

// full is a container of which everything is known.
func full() *Subject {
	press := func(some, full uint64) *stats.Pressure {
		return &stats.Pressure{Some: stats.Stall{Total: some}, Full: stats.Stall{Total: full}}
	}
	return &Subject{
		Container: "app", ID: "/kubepods/pod1/abc", Image: "registry.test/app:1", Name: "abc", Namespace: "shop", Pod: "cart",
		Sample: stats.Sample{
			CPU: &stats.CPU{Usage: 7_900_000_000},
			Memory: &stats.Memory{
				Usage: 1, WorkingSet: 2, RSS: 3, Cache: 4, MappedFile: 5, Swap: u(6), Kernel: u(7), PageFaults: 8, MajorPageFaults: 9,
			},
			Tasks:       u(10),
			CPUPressure: press(1e9, 2e9), MemoryPressure: press(3e9, 4e9), IOPressure: press(5e9, 6e9),
			Detail: &stats.Details{
				User: u(4e9), System: u(3e9), Periods: u(11), ThrottledPeriods: u(12), ThrottledTime: u(13e9),
				MaxUsage: u(14), FailCount: u(15), OOMKills: u(16), MaxTasks: u(17),
				Devices:   []stats.Device{{Major: 1 << 20, Minor: 1, ReadBytes: 18, WriteBytes: 19, DiscardBytes: 20, Reads: 21, Writes: 22}},
				HugePages: []stats.HugePages{{Size: "2MB", Usage: 23, Max: u(24)}},
			},
		},
		Network:   &stats.Network{Interfaces: []stats.Interface{{Name: "eth0", Rx: stats.Traffic{Bytes: 25, Packets: 26, Errors: 27, Dropped: 28}, Tx: stats.Traffic{Bytes: 29, Packets: 30, Errors: 31, Dropped: 32}}}},
		Started:   time.Unix(33, 5),
		Processes: &stats.Processes{Count: 34, Files: 35, Sockets: 36},
		Files:     u(37),
		Limits: &Limits{&runtimeapi.LinuxContainerResources{
			CpuPeriod: 38, CpuQuota: 39, CpuShares: 40, MemoryLimitInBytes: 41, MemorySwapLimitInBytes: 42,
			Unified: map[string]string{"memory.min": "43"},
		}},
		Disk: &Disk{Filesystem: Filesystem{Device: "/dev/vda1", Size: 44, Inodes: 45, FreeInodes: 46}, Used: u(47)},
	}
}

func TestValues(t *testing.T) {
	keys := map[string][]string{}
	for _, d := range Descriptors() {
		keys[d.Name] = d.LabelKeys
	}
	got := map[string]uint64{}
	for _, m := range Of(full()) {
		if len(m.LabelValues) != len(keys[m.Name]) || !slices.Equal(m.LabelValues[:6], []string{"app", "/kubepods/pod1/abc", "registry.test/app:1", "abc", "shop", "cart"}) {
			t.Errorf("%s: labels %v for %v", m.Name, m.LabelValues, keys[m.Name])
		}
		if m.Timestamp != 0 {
			t.Errorf("%s: a time, though it is live", m.Name)
		}
		if strings.HasSuffix(m.Name, "_total") != (m.MetricType == runtimeapi.MetricType_COUNTER) && m.Name != "container_memory_failcnt" && m.Name != "container_fs_inodes_total" {
			t.Errorf("%s is a %s", m.Name, m.MetricType)
		}
		got[strings.Join(append([]string{strings.TrimPrefix(m.Name, "container_")}, m.LabelValues[6:]...), " ")] = m.Value.Value
	}
	if seen := got["last_seen"]; time.Since(time.Unix(int64(seen), 0)) > time.Minute {
		t.Errorf("last seen %d", seen)
	}
	delete(got, "last_seen")
	want := map[string]uint64{
		"cpu_user_seconds_total": 4, "cpu_system_seconds_total": 3, "cpu_usage_seconds_total total": 7,
		"cpu_cfs_periods_total": 11, "cpu_cfs_throttled_periods_total": 12, "cpu_cfs_throttled_seconds_total": 13,
		"memory_usage_bytes": 1, "memory_working_set_bytes": 2, "memory_rss": 3, "memory_cache": 4, "memory_mapped_file": 5,
		"memory_swap": 6, "memory_kernel_usage": 7, "memory_max_usage_bytes": 14, "memory_failcnt": 15, "oom_events_total": 16,
		"memory_failures_total pgfault container": 8, "memory_failures_total pgmajfault container": 9,
		"memory_failures_total pgfault hierarchy": 8, "memory_failures_total pgmajfault hierarchy": 9,
		"pressure_cpu_waiting_seconds_total": 1, "pressure_cpu_stalled_seconds_total": 2,
		"pressure_memory_waiting_seconds_total": 3, "pressure_memory_stalled_seconds_total": 4,
		"pressure_io_waiting_seconds_total": 5, "pressure_io_stalled_seconds_total": 6,
		"hugetlb_usage_bytes 2MB": 23, "hugetlb_max_usage_bytes 2MB": 24,
		"fs_reads_bytes_total ": 18, "fs_writes_bytes_total ": 19, "fs_reads_total ": 21, "fs_writes_total ": 22,
		"blkio_device_usage_total  1048576 1 Read": 18, "blkio_device_usage_total  1048576 1 Write": 19, "blkio_device_usage_total  1048576 1 Discard": 20,
		"fs_limit_bytes /dev/vda1": 44, "fs_inodes_total /dev/vda1": 45, "fs_inodes_free /dev/vda1": 46, "fs_usage_bytes /dev/vda1": 47,
		"network_receive_bytes_total eth0": 25, "network_receive_packets_total eth0": 26, "network_receive_errors_total eth0": 27, "network_receive_packets_dropped_total eth0": 28,
		"network_transmit_bytes_total eth0": 29, "network_transmit_packets_total eth0": 30, "network_transmit_errors_total eth0": 31, "network_transmit_packets_dropped_total eth0": 32,
		"processes": 34, "file_descriptors": 35, "sockets": 36, "threads": 10, "threads_max": 17, "ulimits_soft max_open_files": 37,
		"start_time_seconds": 33,
		"spec_cpu_period":    38, "spec_cpu_quota": 39, "spec_cpu_shares": 40, "spec_memory_limit_bytes": 41, "spec_memory_swap_limit_bytes": 42,
		"spec_memory_reservation_limit_bytes": 43,
	}
	for name, n := range want {
		if v, ok := got[name]; !ok || v != n {
			t.Errorf("%s: %d, %v; want %d", name, v, ok, n)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("not expected: %v", got)
	}
}

func TestWhatIsNotKnownIsLeftOut(t *testing.T) {
	if all := Of(&Subject{Pod: "p"}); len(all) != 0 {
		t.Errorf("%v", all)
	}
	// Without limits there is no quota, and no throttling by it.
	s := full()
	s.Limits = &Limits{}
	got := map[string]uint64{}
	for _, m := range Of(s) {
		got[m.Name] = m.Value.Value
	}
	for _, name := range []string{"container_spec_cpu_quota", "container_cpu_cfs_periods_total"} {
		if n, ok := got[name]; ok {
			t.Errorf("%s: %d", name, n)
		}
	}
	for name, want := range map[string]uint64{
		"container_spec_cpu_period": 100000, "container_spec_cpu_shares": 1024, "container_spec_memory_limit_bytes": 0, "container_spec_memory_swap_limit_bytes": 0,
	} {
		if n, ok := got[name]; !ok || n != want {
			t.Errorf("%s: %d, %v", name, n, ok)
		}
	}
}

func TestReadFilesystem(t *testing.T) {
	f, err := ReadFilesystem("/proc")
	if err != nil || f.Device != "proc" {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err = ReadFilesystem(t.TempDir()); err != nil || f.Device == "" || f.Size == 0 || f.FreeInodes > f.Inodes {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err = ReadFilesystem("/nonexistent"); err == nil {
		t.Error("of no directory")
	}
}

func TestDeviceName(t *testing.T) {
	entries, err := os.ReadDir("/sys/block")
	if err != nil || len(entries) == 0 {
		t.Skip("no block devices here")
	}
	b, err := os.ReadFile("/sys/block/" + entries[0].Name() + "/dev")
	if err != nil {
		t.Fatal(err)
	}
	var id [2]uint64
	major, minor, _ := strings.Cut(strings.TrimSpace(string(b)), ":")
	for i, text := range []string{major, minor} {
		for _, c := range text {
			id[i] = id[i]*10 + uint64(c-'0')
		}
	}
	for range 2 {
		if got := deviceName(id[0], id[1]); got != "/dev/"+entries[0].Name() {
			t.Errorf("%v: %s", id, got)
		}
	}
}

func BenchmarkOf(b *testing.B) {
	s := full()
	for b.Loop() {
		Of(s)
	}
}
