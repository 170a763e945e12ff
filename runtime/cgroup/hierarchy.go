package cgroup

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
)

// Mode says which hierarchies the host has.
type Mode string

const (
	V1     Mode = "v1"     // controllers on their own hierarchies, nothing else
	Hybrid Mode = "hybrid" // v1, and a cgroup2 that tracks processes
	V2     Mode = "v2"     // one cgroup2
)

// hierarchy is one mounted tree of cgroups.
type hierarchy struct {
	mount       string
	v2          bool
	controllers []string // v2: those the root offers; v1: a named one has none
}

func (h *hierarchy) has(controller string) bool { return slices.Contains(h.controllers, controller) }

// dir is the directory of a cgroup path in this hierarchy.
func (h *hierarchy) dir(path string) string { return h.mount + path }

// v1Controllers are the mount options that name controllers; any other option
// of a v1 mount (rw, xattr, noprefix, release_agent=…) is not one.
var v1Controllers = []string{"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb",
	"memory", "misc", "net_cls", "net_prio", "perf_event", "pids", "rdma"}

// discover finds the hierarchies mounted at or below root, each once.
func discover(root string) ([]hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found, err := parseMounts(f, root)
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	for i := range found {
		if !found[i].v2 {
			continue
		}
		b, err := linux.ReadKernel(found[i].mount+"/cgroup.controllers", nil)
		if err != nil {
			return nil, err
		}
		found[i].controllers = strings.Fields(string(b))
	}
	return found, nil
}

func parseMounts(r io.Reader, root string) ([]hierarchy, error) {
	mounts, err := mountinfo.GetMountsFromReader(r, func(m *mountinfo.Info) (skip, stop bool) {
		below := m.Mountpoint == root || strings.HasPrefix(m.Mountpoint, strings.TrimSuffix(root, "/")+"/")
		return !below || (m.FSType != "cgroup" && m.FSType != "cgroup2"), false
	})
	if err != nil {
		return nil, err
	}
	type device struct{ major, minor int }
	seen := map[device]bool{} // the same hierarchy may be mounted twice, by systemd's cpu and cpu,cpuacct
	var found []hierarchy
	for _, m := range mounts {
		dev := device{m.Major, m.Minor}
		if seen[dev] {
			continue
		}
		seen[dev] = true
		h := hierarchy{mount: filepath.Clean(m.Mountpoint), v2: m.FSType == "cgroup2"}
		if !h.v2 {
			for o := range strings.SplitSeq(m.VFSOptions, ",") {
				if slices.Contains(v1Controllers, o) {
					h.controllers = append(h.controllers, o)
				}
			}
		}
		found = append(found, h)
	}
	return found, nil
}

// modeOf names the mix and refuses one that nothing can run on.
func modeOf(hs []hierarchy) (Mode, error) {
	v1, v2 := 0, 0
	for _, h := range hs {
		if h.v2 {
			v2++
		} else {
			v1++
		}
	}
	switch {
	case v2 > 1:
		return "", fmt.Errorf("%d cgroup2 hierarchies: %w", v2, errdefs.ErrFailedPrecondition)
	case v1 > 0 && v2 > 0:
		return Hybrid, nil
	case v1 > 0:
		return V1, nil
	case v2 > 0:
		return V2, nil
	}
	return "", fmt.Errorf("no cgroup hierarchy is mounted: %w", errdefs.ErrFailedPrecondition)
}
