package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cri/berth/linux/probe"
)

type checkState string

const (
	stateOK   checkState = "ok"
	stateNote checkState = "note"
	stateFail checkState = "FAIL"
)

// check is one line of the report.
type check struct {
	Name        string     `json:"name"`
	State       checkState `json:"state"`
	Found       string     `json:"found"`
	Consequence string     `json:"consequence,omitempty"` // what Berth does about it
}

// judge turns facts into checks.
func (r *report) judge() {
	r.kernel()
	r.cgroups()
	r.files()
	r.processes()
	r.security()
	r.network()
	r.limits()
	r.OK = !slices.ContainsFunc(r.Checks, func(c check) bool { return c.State == stateFail })
}

func (r *report) add(name string, state checkState, found, consequence string) {
	if state == stateOK {
		consequence = ""
	}
	r.Checks = append(r.Checks, check{name, state, found, consequence})
}

// feature adds a check that is ok, or otherwise why not.
func (r *report) feature(name string, f probe.Feature, otherwise checkState, consequence string) {
	if f.OK {
		r.add(name, stateOK, "yes", "")
		return
	}
	r.add(name, otherwise, "no: "+f.Why, consequence)
}

// threshold adds a check that is ok from a number on.
func (r *report) threshold(name string, have, want int64, consequence string) {
	switch {
	case have < 0:
		r.add(name, stateNote, "not known", consequence)
	case have < want:
		r.add(name, stateNote, fmt.Sprint(have), consequence)
	default:
		r.add(name, stateOK, fmt.Sprint(have), "")
	}
}

// configuration says whether a daemon runs with what its files say.
func (r *report) configuration(state string, invalid error) {
	l, err := readRunning(state)
	switch {
	case invalid != nil && err == nil:
		r.add("configuration", stateFail, strings.Join(problems(invalid), "; "), "The daemon goes on with the configuration from before, and would not start again. The checks below are of the default places.")
	case invalid != nil:
		r.add("configuration", stateFail, strings.Join(problems(invalid), "; "), "The daemon does not start. The checks below are of the default places.")
	case err != nil: // none runs, or one of an older version
		return
	case len(l.Problems) > 0:
		r.add("configuration", stateNote, strings.Join(l.Problems, "; "), "The files are not in effect: the daemon goes on with the configuration from before, and would not start again.")
	case len(l.Pending) > 0:
		var keys []string
		for _, c := range l.Pending {
			keys = append(keys, c.Key)
		}
		r.add("configuration", stateNote, "changed: "+strings.Join(keys, " "), "These take effect when the daemon is restarted. berth config diff shows them.")
	default:
		r.add("configuration", stateOK, "in effect", "")
	}
}

func (r *report) kernel() {
	state := stateOK
	if !r.Kernel.Version.AtLeast(5, 15) {
		state = stateFail
	}
	r.add("kernel", state, r.Kernel.Release, "Berth needs Linux 5.15 or newer.")
}

func (r *report) cgroups() {
	c := r.Kernel.Cgroup
	found := fmt.Sprintf("%s; controllers %s", c.Mode, strings.Join(c.Controllers, " "))
	switch c.Mode {
	case probe.CgroupV2:
		r.add("cgroups", stateOK, found, "")
	case "":
		r.add("cgroups", stateFail, "none mounted", "Mount cgroup2 on /sys/fs/cgroup.")
	default:
		r.add("cgroups", stateNote, found,
			"Works. Exact OOM reporting, pressure figures and swap limits need cgroup v2, and the kubelet refuses v1 unless failCgroupV1 is off.")
	}
	var missing []string
	for _, name := range []string{"cpu", "cpuset", "memory", "pids"} {
		if !slices.Contains(c.Controllers, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 && c.Mode != "" {
		r.add("cgroup controllers", stateNote, "missing: "+strings.Join(missing, " "), "A request for a limit of a missing controller is an error.")
	}
	if !slices.Contains(c.Controllers, "hugetlb") {
		r.add("hugepage limits", stateNote, "no hugetlb controller", "A limit of 0, which the kubelet always sends, is dropped; any other is an error.")
	}
	if c.Systemd && c.Driver() != "systemd" {
		r.add("cgroup driver", stateNote, c.Driver()+", but systemd runs this host",
			"The systemd driver needs cgroup v2 alone. The kubelet must use cgroupfs too.")
	} else {
		r.add("cgroup driver", stateOK, c.Driver(), "")
	}
	r.feature("cgroup.kill", r.Kernel.CgroupKill, stateNote, "Containers without a PID namespace of their own are frozen and killed one process after the other.")
	r.feature("clone into cgroup", r.Kernel.CloneIntoCgroup, stateNote, "New processes are moved into their cgroups before they run anything.")
}

func (r *report) files() {
	o := r.Overlay
	r.add("root directory", stateOK, fmt.Sprintf("%s: %s, %s free", r.Root.Dir, r.Root.Filesystem, bytesText(r.Root.Free)), "")
	if r.Root.Filesystem == "tmpfs" || r.Root.Filesystem == "ramfs" {
		r.Checks[len(r.Checks)-1].State = stateNote
		r.Checks[len(r.Checks)-1].Consequence = "Images are lost at a reboot and take memory."
	}
	if r.Root.Free < 1<<30 {
		r.add("free disk", stateNote, bytesText(r.Root.Free), "Pulls fail when it is full; what runs goes on.")
	}
	r.feature("overlay", o.Mount, stateFail, "Images cannot be mounted on this file system. Put the root directory on ext4 or xfs, and see that the overlay module loads.")
	r.feature("overlay volatile", o.Volatile, stateNote, "Removing a container that wrote much waits for the disk.")
	r.feature("overlay lowerdir+", o.AppendLower, stateNote, "Images with very many layers do not fit one mount call and are refused.")
	r.feature("id-mapped mounts", o.IDMapped, stateNote, "Pods with user namespaces are refused on this file system.")

	state := stateOK
	if r.State.Filesystem != "tmpfs" {
		state = stateNote
	}
	r.add("state directory", state, fmt.Sprintf("%s: %s", r.State.Dir, r.State.Filesystem),
		"Not a tmpfs: Berth mounts one over it when it starts.")
	r.feature("openat2", r.Kernel.Openat2, stateFail, "Paths inside images cannot be resolved safely.")
	r.feature("mount_setattr", r.Kernel.MountSetattr, stateFail, "Recursive read-only mounts cannot be made.")
	r.feature("host mounts", r.Kernel.HostMounts, stateNote,
		"Berth runs in a mount namespace of its own: others do not see its namespaces, and they die with it. Run it without PrivateMounts=, PrivateTmp= and ProtectSystem=.")
	r.feature("shared mounts", r.Kernel.SharedRoot, stateNote,
		"Mounts of a container cannot reach the host: volumes with Bidirectional propagation are refused unless their own mount is shared.")
}

func (r *report) processes() {
	k := r.Kernel
	r.feature("PIDFD exit info", k.PidfdExitInfo, stateNote,
		"An exit code is read from the zombie if the monitor died before it; where even that is too late it is reported as unknown.")
	r.feature("memfd exec", k.MemfdExec, stateNote, "berth-init is run from the disk, behind a read-only mount, instead of from sealed memory.")
	r.feature("user namespaces", k.UserNamespaces, stateNote, "Pods with user namespaces are refused.")
}

// essential are the capabilities without which no container starts; the kubelet's
// default set must be there to be given away, too.
var essential = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD", "CAP_NET_ADMIN",
	"CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT",
}

func (r *report) security() {
	k := r.Kernel
	r.capabilities()
	r.feature("seccomp", k.Seccomp, stateFail, "Containers cannot be confined.")
	r.feature("AppArmor", k.AppArmor, stateNote, "Containers run without a profile; a request for one is an error.")
	if k.AppArmor.OK {
		r.feature("AppArmor profile", r.AppArmorProfile, stateNote, "Containers that ask for no profile run without one; a request for the default one is an error.")
	}
	const unlabelled = "Nothing is labelled, and labels in requests mean nothing, as with other runtimes."
	if k.SELinux.OK && !r.SELinux {
		r.add("SELinux", stateNote, "yes, but container.enable_selinux is false", unlabelled)
	} else {
		r.feature("SELinux", k.SELinux, stateNote, unlabelled)
	}
}

func (r *report) capabilities() {
	k := r.Kernel
	found := fmt.Sprintf("%d held", len(k.CapabilitiesHeld))
	if len(k.CapabilitiesMissing) == 0 {
		r.add("capabilities", stateOK, found+", all that the kernel knows", "")
		return
	}
	found += ", missing: " + strings.Join(k.CapabilitiesMissing, " ")
	for _, c := range essential {
		if !k.Holds(c) {
			r.add("capabilities", stateFail, found, "Berth cannot start containers without "+c+". Run it as root.")
			return
		}
	}
	consequence := "A privileged container gets those that Berth holds."
	if !k.Holds("CAP_SYS_RESOURCE") {
		consequence += " Without CAP_SYS_RESOURCE an oom_score_adj below Berth's own and a limit above Berth's own are lowered to that."
	}
	r.add("capabilities", stateNote, found, consequence)
}

func (r *report) network() {
	r.feature("bridge and veth", r.Kernel.NetworkDevices, stateNote, "The builtin network and the bridge plugin do not work; pods on the host network do.")
	r.feature("nftables", r.Kernel.Nftables, stateNote, "Host ports and masquerading of the built-in plugins do not work.")
}

func (r *report) limits() {
	l := r.Kernel.Limits
	// Each container costs two pipes, a log and a pidfd in the monitor, and
	// the like in the daemon: 500 containers need some 4000.
	r.threshold("open files", clampInt64(l.NofileHard), 8192, "Nodes with hundreds of containers need more: raise LimitNOFILE= of the service.")
	r.threshold("inotify instances", l.InotifyInstances, 128, "Programs in containers that watch files may fail: raise fs.inotify.max_user_instances.")
	r.threshold("inotify watches", l.InotifyWatches, 8192, "Programs in containers that watch files may fail: raise fs.inotify.max_user_watches.")
	// 16 KiB for each of two pipes per container: 4 pages each.
	r.threshold("pipe pages per user", l.PipeUserPagesSoft, 4096, "With many containers, root's new pipes become small: raise fs.pipe-user-pages-soft.")
}

func clampInt64(v uint64) int64 { return int64(min(v, 1<<62)) }

func bytesText(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	default:
		return fmt.Sprintf("%d MiB", n>>20)
	}
}
