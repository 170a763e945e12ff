package kubelet

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// hierarchies are the mount points of the cgroup file systems: one with v2, one for
// each controller with v1.
func hierarchies() []string {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	var dirs []string
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "cgroup" || f[2] == "cgroup2" {
			dirs = append(dirs, f[1])
		}
	}
	return dirs
}

// makeCgroups makes the kubelet's cgroup root, which it wants to find.
func makeCgroups(path string) error {
	for _, h := range hierarchies() {
		if err := os.MkdirAll(filepath.Join(h, path), 0o755); err != nil {
			return err
		}
		if strings.HasSuffix(h, "/cpuset") {
			if err := fillCpuset(h, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillCpuset gives a new cpuset of cgroup v1 what its parent has: it starts empty,
// and no process may enter it.
func fillCpuset(hierarchy, path string) error {
	at := hierarchy
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		parent := at
		at = filepath.Join(at, name)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			b, err := os.ReadFile(filepath.Join(parent, file))
			if err == nil {
				err = os.WriteFile(filepath.Join(at, file), b, 0)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func cgroupsBelow(path string) []string {
	var dirs []string
	for _, h := range hierarchies() {
		filepath.WalkDir(filepath.Join(h, path), func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
	}
	return dirs
}

// removeCgroups removes a tree of empty cgroups, deepest first.
func removeCgroups(path string) {
	dirs := cgroupsBelow(path)
	for i := len(dirs) - 1; i >= 0; i-- {
		os.Remove(dirs[i])
	}
}
