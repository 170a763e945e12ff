package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// DetectHost looks at the machine. It is called once, when the daemon starts.
func DetectHost() (Host, error) {
	h := Host{RlimitMax: map[string]uint64{}}
	var err error
	if h.Hostname, err = os.Hostname(); err != nil {
		return Host{}, err
	}
	if err := h.detectCgroup(); err != nil {
		return Host{}, err
	}
	if err := h.detectPrivilege(); err != nil {
		return Host{}, err
	}
	// EFAULT is the answer of a kernel with filters: it wanted to read one.
	h.Seccomp = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0) == unix.EFAULT
	return h, nil
}

func (h *Host) detectCgroup() error {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: cgroupRoot, Err: err}
	}
	h.CgroupV2 = st.Type == unix.CGROUP2_SUPER_MAGIC
	hugetlb := exists(cgroupRoot + "/hugetlb")
	if !h.CgroupV2 {
		h.Swap = exists(cgroupRoot + "/memory/memory.memsw.limit_in_bytes")
	} else {
		controllers, err := os.ReadFile(cgroupRoot + "/cgroup.controllers")
		if err != nil {
			return err
		}
		hugetlb = slices.Contains(strings.Fields(string(controllers)), "hugetlb")
		// The root has no limits: any group below tells.
		swap, _ := filepath.Glob(cgroupRoot + "/*/memory.swap.max")
		h.Swap = len(swap) > 0
		mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(cgroupRoot))
		if err != nil {
			return err
		}
		for _, m := range mounts {
			for o := range strings.SplitSeq(m.VFSOptions, ",") {
				if o == "nsdelegate" || o == "memory_recursiveprot" || o == "memory_hugetlb_accounting" {
					h.CgroupOptions = append(h.CgroupOptions, o)
				}
			}
		}
	}
	if hugetlb {
		return h.detectHugepages("/sys/kernel/mm/hugepages")
	}
	return nil
}

// detectHugepages lists the sizes as the CRI writes them: hugepages-2048kB is
// "2MB".
func (h *Host) detectHugepages(dir string) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB"))
		if err != nil {
			continue
		}
		switch {
		case kb%(1<<20) == 0:
			h.HugepageSizes = append(h.HugepageSizes, fmt.Sprintf("%dGB", kb>>20))
		case kb%(1<<10) == 0:
			h.HugepageSizes = append(h.HugepageSizes, fmt.Sprintf("%dMB", kb>>10))
		default:
			h.HugepageSizes = append(h.HugepageSizes, fmt.Sprintf("%dKB", kb))
		}
	}
	return nil
}

// detectPrivilege finds what Berth could hand on.
func (h *Host) detectPrivilege() error {
	caps, err := capability.NewPid2(0)
	if err == nil {
		err = caps.Load()
	}
	if err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	supported, err := capability.ListSupported()
	if err != nil {
		return fmt.Errorf("list the kernel's capabilities: %w", err)
	}
	for _, c := range supported {
		h.KernelCapabilities = append(h.KernelCapabilities, capabilityName(c))
		if caps.Get(capability.PERMITTED, c) && caps.Get(capability.BOUNDING, c) {
			h.Capabilities = append(h.Capabilities, capabilityName(c))
		}
	}
	for name, r := range rlimitNumbers {
		var l unix.Rlimit
		if err := unix.Getrlimit(r, &l); err != nil {
			return os.NewSyscallError("getrlimit", err)
		}
		h.RlimitMax[name] = l.Max
	}
	text, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return err
	}
	h.OOMScoreAdj, err = strconv.Atoi(strings.TrimSpace(string(text)))
	return err
}

var rlimitNumbers = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
