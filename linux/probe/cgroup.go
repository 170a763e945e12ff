package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux/namespace"
)

// The arrangements of cgroup hierarchies.
const (
	CgroupV1     = "v1"
	CgroupHybrid = "hybrid" // v1 controllers, and a v2 hierarchy without any
	CgroupV2     = "v2"
)

// Cgroup is how control groups are mounted here.
type Cgroup struct {
	Mode        string   `json:"mode"`        // "" when nothing is mounted
	Controllers []string `json:"controllers"` // of v1 or v2, whichever has them
	Unified     string   `json:"unified"`     // where v2 is mounted, "" if nowhere
	Systemd     bool     `json:"systemd"`     // systemd runs this host and wants to own its cgroups
}

// Driver is the kubelet's word for who manages cgroups here, unless the
// configuration says otherwise.
func (c Cgroup) Driver() string {
	if c.Systemd && c.Mode == CgroupV2 {
		return "systemd"
	}
	return "cgroupfs"
}

func cgroups() Cgroup {
	var c Cgroup
	// sd_booted(3).
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		c.Systemd = true
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return c
	}
	for _, m := range mounts {
		if m.FSType == "cgroup2" {
			if c.Unified == "" {
				c.Unified = m.Mountpoint
			}
			continue
		}
		for _, o := range strings.Split(m.VFSOptions, ",") {
			// Besides controllers there are rw, and name=systemd.
			if o != "rw" && o != "ro" && !strings.Contains(o, "=") && !slices.Contains(c.Controllers, o) {
				c.Controllers = append(c.Controllers, o)
			}
		}
		c.Mode = CgroupV1
	}
	switch {
	case c.Mode == CgroupV1 && c.Unified != "":
		c.Mode = CgroupHybrid
	case c.Unified != "":
		c.Mode = CgroupV2
		text, err := os.ReadFile(filepath.Join(c.Unified, "cgroup.controllers"))
		if err == nil {
			c.Controllers = strings.Fields(string(text))
		}
	}
	slices.Sort(c.Controllers)
	return c
}

// own is the directory of this process's cgroup in the v2 hierarchy.
func (c Cgroup) own() (string, error) {
	if c.Unified == "" {
		return "", errors.New("no cgroup v2 is mounted")
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(c.Unified, path), nil
		}
	}
	return "", errors.New("/proc/self/cgroup has no v2 line")
}

// kill looks for cgroup.kill. The root cgroup has none anyway, so make a
// cgroup to look into.
func (c Cgroup) kill() Feature {
	if c.Unified == "" {
		return Feature{Why: "no cgroup v2 is mounted"}
	}
	dir, err := os.MkdirTemp(c.Unified, "berth-probe-")
	if err != nil {
		return present(err)
	}
	defer unix.Rmdir(dir)
	_, err = os.Stat(filepath.Join(dir, "cgroup.kill"))
	return present(err)
}

// cloneInto starts a child in the cgroup that this process is in.
func (c Cgroup) cloneInto() Feature {
	dir, err := c.own()
	if err != nil {
		return present(err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return present(fmt.Errorf("open %s: %w", dir, err))
	}
	defer unix.Close(fd)
	return present(namespace.WithChild(&childAttr{CgroupFD: fd, UseCgroupFD: true}, nothing))
}
