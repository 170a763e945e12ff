package embedded

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroupLayout is which cgroup hierarchies the host has mounted, and where.
type cgroupLayout struct {
	unified     bool // cgroup2 only
	hierarchies []plan.Hierarchy
	links       []plan.Symlink
}

// hostCgroups is read once: a host does not change it while it runs.
var hostCgroups = sync.OnceValues(func() (cgroupLayout, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil {
		return cgroupLayout{}, fmt.Errorf("look at %s: %w", cgroupRoot, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return cgroupLayout{unified: true}, nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return cgroupLayout{}, fmt.Errorf("look for cgroup mounts: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return cgroupLayout{}, fmt.Errorf("look for cgroup hierarchies: %w", err)
	}
	return layout(mounts, string(own)), nil
})

// viewsCgroupV1 says whether the container gets a view of cgroup v1.
func (c *compilation) viewsCgroupV1() (bool, error) {
	for _, m := range c.spec.Mounts {
		if m.Type == "cgroup" {
			host, err := hostCgroups()
			return !host.unified, err
		}
	}
	return false, nil
}

// layout finds the mount of each hierarchy that /proc/self/cgroup names. The
// names of its lines are also options of the mount's superblock.
func layout(mounts []*mountinfo.Info, own string) cgroupLayout {
	var l cgroupLayout
	for line := range strings.Lines(own) {
		_, line, _ = strings.Cut(line, ":")
		key, _, _ := strings.Cut(line, ":")
		m := mountOf(mounts, key)
		if m == nil {
			continue
		}
		name := path.Base(m.Mountpoint)
		l.hierarchies = append(l.hierarchies, plan.Hierarchy{Name: name, Mount: m.Mountpoint, Root: m.Root, Key: key})
		for controller := range strings.SplitSeq(key, ",") {
			// cpu and cpuacct are often one hierarchy, found by either name.
			if controller != name && strings.Contains(key, ",") {
				l.links = append(l.links, plan.Symlink{Path: controller, Target: name})
			}
		}
	}
	return l
}

func mountOf(mounts []*mountinfo.Info, key string) *mountinfo.Info {
	var found *mountinfo.Info
	for _, m := range mounts {
		if (m.FSType == "cgroup2") != (key == "") {
			continue
		}
		options := strings.Split(m.VFSOptions, ",")
		if key != "" && !containsAll(options, strings.Split(key, ",")) {
			continue
		}
		if found == nil || !strings.HasPrefix(found.Mountpoint, cgroupRoot) {
			found = m
		}
	}
	return found
}

func containsAll(all, some []string) bool {
	for _, s := range some {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}
