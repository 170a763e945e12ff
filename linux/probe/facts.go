package probe

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Feature is something that is there or not.
type Feature struct {
	OK  bool   `json:"ok"`
	Why string `json:"why,omitempty"` // it is absent
}

// present is a Feature that is there if err is nil.
func present(err error) Feature {
	if err != nil {
		return Feature{Why: err.Error()}
	}
	return Feature{OK: true}
}

// Facts are what does not change while the process lives.
type Facts struct {
	Release string  `json:"release"` // as uname -r prints it
	Version Version `json:"version"`

	Cgroup          Cgroup  `json:"cgroup"`
	CgroupKill      Feature `json:"cgroup_kill"`       // cgroup.kill, 5.14, v2 only
	CloneIntoCgroup Feature `json:"clone_into_cgroup"` // 5.7, v2 only

	PidfdExitInfo  Feature `json:"pidfd_exit_info"` // exit codes of other people's children, 6.15
	UserNamespaces Feature `json:"user_namespaces"`
	MemfdExec      Feature `json:"memfd_exec"` // vm.memfd_noexec may forbid it

	Openat2      Feature `json:"openat2"`       // 5.6
	MountSetattr Feature `json:"mount_setattr"` // recursive read-only mounts, 5.12
	HostMounts   Feature `json:"host_mounts"`   // this process sees the host's mounts and not a copy
	SharedRoot   Feature `json:"shared_root"`   // mounts below / propagate

	Seccomp  Feature `json:"seccomp"`
	AppArmor Feature `json:"apparmor"`
	SELinux  Feature `json:"selinux"`

	NetworkDevices Feature `json:"network_devices"` // veth and bridge, in a namespace of their own
	Nftables       Feature `json:"nftables"`

	CapabilitiesHeld    []string `json:"capabilities_held"` // effective, as "CAP_SYS_ADMIN"
	CapabilitiesMissing []string `json:"capabilities_missing"`

	Limits Limits `json:"limits"`
}

// Version is the kernel's.
type Version struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
}

// AtLeast compares.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// Holds says whether a capability is effective.
func (f Facts) Holds(capability string) bool {
	for _, c := range f.CapabilitiesHeld {
		if c == capability {
			return true
		}
	}
	return false
}

// Kernel probes once and remembers.
var Kernel = sync.OnceValue(kernel)

func kernel() Facts {
	f := Facts{
		Cgroup:         cgroups(),
		Openat2:        openat2(),
		MountSetattr:   mountSetattr(),
		HostMounts:     hostMounts(),
		SharedRoot:     sharedRoot(),
		MemfdExec:      memfdExec(),
		Seccomp:        seccomp(),
		AppArmor:       appArmor(),
		SELinux:        selinux(),
		Nftables:       nftable(),
		NetworkDevices: networkDevices(),
		Limits:         limits(),
	}
	f.Release, f.Version = release()
	f.CapabilitiesHeld, f.CapabilitiesMissing = capabilities()
	f.CgroupKill = f.Cgroup.kill()
	f.CloneIntoCgroup = f.Cgroup.cloneInto()
	f.UserNamespaces, f.PidfdExitInfo = userNamespace()
	return f
}

func release() (string, Version) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", Version{}
	}
	text := unix.ByteSliceToString(u.Release[:])
	return text, parseVersion(text)
}

func parseVersion(release string) Version {
	var v Version
	// Whatever follows the two numbers is the distribution's.
	if n, _ := fmt.Sscanf(release, "%d.%d", &v.Major, &v.Minor); n != 2 {
		return Version{}
	}
	return v
}
