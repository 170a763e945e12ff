package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// leaksOver looks, with the daemon alive and every pod removed, for what a pod
// or a container may have left.
func (n *node) leaksOver() {
	n.t.Helper()
	check := func(what string, find func() []string) {
		n.t.Helper()
		var left []string
		for range 400 { // links die with their namespace, cgroups after their processes: asynchronously
			if left = find(); len(left) == 0 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		n.t.Errorf("left behind: %s: %s", what, strings.Join(left, "\n\t"))
	}
	check("pod records", func() []string { return entries(n.path("state/pods")) })
	check("container records", func() []string { return entries(n.path("state/containers")) })
	check("state of OCI runtimes", func() []string { return n.runtimeState() })
	check("writable layers", func() []string { return entries(n.path("root/containers")) })
	check("temporary files", func() []string { return entries(n.path("root/tmp")) })
	check("trash", func() []string { return entries(n.path("root/trash")) })
	check("mounts", func() []string { return n.mounts() })
	check("cgroups", func() []string {
		return slices.DeleteFunc(cgroupsBelow(n.cgroup), func(dir string) bool { return strings.HasSuffix(dir, ".slice") }) // the kubelet's
	})
	check("network interfaces", func() []string { return bridgePorts(n.bridge) })
	check("processes", func() []string { return n.processes() })
	check("IP leases", func() []string { return n.leases() })
	check("elements of nftables sets", func() []string { return n.filterElements() })
	check("network records", func() []string { return entries(n.path("root/cni/attachments")) })
	if fds := descriptors(n.cmd.Process.Pid, n.dir+"/state/"); len(fds) > 6 {
		n.t.Errorf("left behind: descriptors of the daemon: %s", strings.Join(fds, "\n\t"))
	}
	if fds := descriptors(n.monitor(), n.dir+"/state/containers"); len(fds) > 0 {
		n.t.Errorf("left behind: descriptors of the monitor: %s", strings.Join(fds, "\n\t"))
	}
}

// leaksAfter looks, with daemon and monitor ended.
func (n *node) leaksAfter() {
	n.t.Helper()
	var left []string
	for range 100 {
		if left = n.processes(); len(left) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	n.t.Errorf("processes left behind: %v", left)
}

func entries(dir string) []string {
	list, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return []string{err.Error()}
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// mounts below the node's directory, but for the tmpfs of the state itself.
func (n *node) mounts() []string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) > 4 && strings.HasPrefix(f[4], n.dir+"/") && f[4] != n.path("state") && f[4] != n.path("state/oci") {
			found = append(found, line)
		}
	}
	return found
}

// runtimeState is what OCI runtimes know of containers, and what calls of them
// have left.
func (n *node) runtimeState() []string {
	found := entries(n.path("state/oci/tmp"))
	for _, handler := range entries(n.path("state/runtimes")) {
		found = append(found, entries(n.path("state/runtimes", handler))...)
	}
	return found
}

func cgroupsBelow(parent string) []string {
	var found []string
	roots, _ := filepath.Glob("/sys/fs/cgroup/*" + parent)
	if more := "/sys/fs/cgroup" + parent; exists(more) {
		roots = append(roots, more)
	}
	for _, root := range roots {
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && path != root {
				found = append(found, path)
			}
			return nil
		})
	}
	return found
}

func removeCgroups(parent string) {
	if driver == "systemd" {
		command("systemctl", "stop", filepath.Base(parent))
		return
	}
	dirs := append(cgroupsBelow(parent), "/sys/fs/cgroup"+parent)
	more, _ := filepath.Glob("/sys/fs/cgroup/*" + parent)
	for _, d := range append(more, dirs...) {
		os.Remove(d)
	}
	for _, d := range more {
		os.Remove(d)
	}
}

func bridgePorts(bridge string) []string { return entries("/sys/class/net/" + bridge + "/brif") }

// processes of the node's containers: those below its cgroup parent, and those
// whose command line names its directory, but for daemon and monitor.
func (n *node) processes() []string {
	var found []string
	list, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range list {
		pid := filepath.Base(p)
		if pid == fmt.Sprint(n.cmd.Process.Pid) {
			continue
		}
		cgroup, _ := os.ReadFile(p + "/cgroup")
		cmdline, _ := os.ReadFile(p + "/cmdline")
		line := strings.ReplaceAll(string(cmdline), "\x00", " ")
		inside := strings.Contains(string(cgroup), n.cgroup)
		named := strings.Contains(line, n.dir) && !strings.Contains(line, "berth-monitor")
		called := strings.Contains(line, "--log-format json delete") // an OCI runtime, after an exit
		if (inside || named) && !called {
			found = append(found, pid+" "+line)
		}
	}
	return found
}

func (n *node) leases() []string {
	var found []string
	filepath.WalkDir(n.path("root/cni/networks"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.ContainsAny(d.Name(), ".:") && !strings.HasPrefix(d.Name(), "last_reserved") {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// descriptors of a process that lead below a directory.
func descriptors(pid int, below string) []string {
	var found []string
	for _, fd := range entries(fmt.Sprintf("/proc/%d/fd", pid)) {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd))
		if err == nil && strings.HasPrefix(to, below) {
			found = append(found, fd+" -> "+to)
		}
	}
	return found
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// rss is a process's resident memory in bytes.
func rss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var size, resident int
	if err == nil {
		_, err = fmt.Sscan(string(b), &size, &resident)
	}
	if err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}
