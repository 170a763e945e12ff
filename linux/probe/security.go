package probe

import (
	"os"
	"strings"
	"unsafe"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

func seccomp() Feature {
	// SECCOMP_RET_ERRNO (4.14) stands for filters at all.
	action := uint32(unix.SECCOMP_RET_ERRNO)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if errno != 0 {
		return present(os.NewSyscallError("seccomp", errno))
	}
	return Feature{OK: true}
}

func appArmor() Feature {
	text, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if err != nil {
		return Feature{Why: "not in this kernel"}
	}
	if !strings.HasPrefix(string(text), "Y") {
		return Feature{Why: "switched off at boot"}
	}
	// Profiles cannot be loaded or looked up without it.
	if _, err := os.Stat("/sys/kernel/security/apparmor/profiles"); err != nil {
		return present(err)
	}
	return Feature{OK: true}
}

func selinux() Feature {
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		return Feature{Why: "not enabled"}
	}
	return Feature{OK: true}
}

// capabilities returns the effective ones and the rest that the kernel knows.
func capabilities() (held, missing []string) {
	all, err := capability.ListSupported()
	if err != nil {
		return nil, nil
	}
	own, err := capability.NewPid2(0)
	if err == nil {
		err = own.Load()
	}
	for _, c := range all {
		name := "CAP_" + strings.ToUpper(c.String())
		if err == nil && own.Get(capability.EFFECTIVE, c) {
			held = append(held, name)
		} else {
			missing = append(missing, name)
		}
	}
	return held, missing
}
