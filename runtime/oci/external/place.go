package external

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci"
)

// place puts a process into the cgroups where it is not yet. Runtimes put it into
// those that they know of, which need not be all: on a hybrid host some leave out
// the cgroup2.
func place(pid int, p oci.Placement) error {
	files := slices.Clone(p.Procs)
	if p.V2Dir != "" && !slices.Contains(files, p.V2Dir+"/cgroup.procs") {
		files = append(files, p.V2Dir+"/cgroup.procs")
	}
	number := strconv.Itoa(pid)
	for _, file := range files {
		b, err := linux.ReadKernel(file, nil)
		if err == nil && slices.Contains(strings.Fields(string(b)), number) {
			continue
		}
		if err := linux.WriteKernel(file, number); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// placeAll is place for a command that runs already in its container's cgroup: with
// all that it has started, until no more is found. What they start from then on is
// born in the right place. Runtimes make a command the leader of a session.
func placeAll(pid int, p oci.Placement) error {
	const rounds = 5 // against one that never stops forking
	done := map[int]bool{}
	list := []int{pid}
	for i := 0; i < rounds && len(list) > 0; i++ {
		for _, pid := range list {
			if err := place(pid, p); err != nil {
				return err
			}
			done[pid] = true
		}
		list = slices.DeleteFunc(session(pid, p), func(pid int) bool { return done[pid] })
	}
	return nil
}

// session are the processes of a session that are in a container's cgroup.
func session(leader int, p oci.Placement) (found []int) {
	dirs := []string{p.V2Dir}
	for _, file := range p.Procs {
		dirs = append(dirs, filepath.Dir(file))
	}
	for _, dir := range dirs {
		b, err := linux.ReadKernel(filepath.Dir(dir)+"/cgroup.procs", nil)
		if dir == "" || err != nil {
			continue
		}
		for _, word := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(word)
			if err != nil || slices.Contains(found, pid) {
				continue
			}
			if sid, err := unix.Getsid(pid); err == nil && sid == leader {
				found = append(found, pid)
			}
		}
	}
	return found
}
