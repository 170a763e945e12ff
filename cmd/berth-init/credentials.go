package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// limitBounding drops what is not in the set, up to the highest capability that
// the kernel knows.
func limitBounding(s *plan.Bounding) error {
	for n := uintptr(0); n < 64; n++ {
		if s.Set&(1<<n) != 0 {
			continue
		}
		if err := just(syscall.SYS_PRCTL, prCapbsetDrop, n, 0, 0, 0); err == syscall.EINVAL {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// chdir is tried as root first, who may enter more, and again as the user, who
// may enter what a network file system keeps from root.
func (c *container) chdir(s *plan.Chdir) error {
	err := just(syscall.SYS_CHDIR, str(s.Path))
	switch err {
	case syscall.EACCES, syscall.EPERM:
		c.cwd = s.Path
		return nil
	case syscall.ENOENT:
		return explained{syscall.ENOENT, "it does not exist"}
	case nil:
		return insideRoot()
	}
	return err
}

// insideRoot holds that the working directory is one of the container
// (CVE-2024-21626): the kernel marks any other as unreachable.
func insideRoot() error {
	b := make([]byte, 4096)
	n, err := call(syscall.SYS_GETCWD, ptr(&b[0]), uintptr(len(b)))
	if err == nil && (n == 0 || b[0] != '/') {
		err = syscall.ENOENT
	}
	if err != nil {
		return explain(err, "it is outside of the container")
	}
	return nil
}

func (c *container) becomeUser(s *plan.User) error {
	ownStreams(s.UID)
	// Without it the capabilities would go with user 0, before setCapabilities.
	if err := just(syscall.SYS_PRCTL, prSetKeepcaps, 1, 0, 0, 0); err != nil {
		return err
	}
	groups := uintptr(0)
	if len(s.Groups) > 0 {
		groups = ptr(&s.Groups[0])
	}
	if err := just(syscall.SYS_SETGROUPS, uintptr(len(s.Groups)), groups); err != nil {
		return explain(err, "additional groups")
	}
	gid, uid := uintptr(s.GID), uintptr(s.UID)
	if err := just(syscall.SYS_SETRESGID, gid, gid, gid); err != nil {
		return explain(err, "group")
	}
	if err := just(syscall.SYS_SETRESUID, uid, uid, uid); err != nil {
		return err
	}
	if c.cwd == "" {
		return nil
	}
	if err := just(syscall.SYS_CHDIR, str(c.cwd)); err != nil {
		return explain(err, "working directory "+c.cwd)
	}
	return insideRoot()
}

// ownStreams gives the user the standard streams, so that programs can open
// /dev/stdout. Errors are no reason to fail: a stream may be on a file system
// without owners. /dev/null is everybody's.
func ownStreams(uid uint32) {
	for n := range 3 {
		st, err := fstat(n)
		if err != nil || st.Uid == uid || isDevice(&st, &plan.Device{Mode: syscall.S_IFCHR, Major: 1, Minor: 3}) {
			continue
		}
		_ = just(syscall.SYS_FCHOWN, fd(n), uintptr(uid), allFds)
	}
}

// capabilityHeader and capabilityData are those of capset(2).
type (
	capabilityHeader struct{ version, _ uint32 } // and a pid: 0, this thread
	capabilityData   struct{ effective, permitted, inheritable uint32 }
)

func setCapabilities(s *plan.Capabilities) error {
	header := &capabilityHeader{version: linuxCapVersion3}
	data := &[2]capabilityData{
		{uint32(s.Effective), uint32(s.Permitted), uint32(s.Inheritable)},
		{uint32(s.Effective >> 32), uint32(s.Permitted >> 32), uint32(s.Inheritable >> 32)},
	}
	held := &[2]capabilityData{}
	if err := just(syscall.SYS_CAPGET, ptr(header), ptr(held)); err != nil {
		return err
	}
	if err := just(syscall.SYS_PRCTL, prCapAmbient, prCapAmbientClear, 0, 0, 0); err != nil {
		return err
	}
	if err := just(syscall.SYS_CAPSET, ptr(header), ptr(data)); err != nil {
		permitted := uint64(held[0].permitted) | uint64(held[1].permitted)<<32
		if lack := (s.Permitted | s.Effective | s.Inheritable) &^ permitted; lack != 0 {
			return explain(err, "Berth itself does not have "+plan.CapabilityNames(lack))
		}
		return err
	}
	for n := uintptr(0); n < 64; n++ {
		if s.Ambient&(1<<n) == 0 {
			continue
		}
		if err := just(syscall.SYS_PRCTL, prCapAmbient, prCapAmbientRaise, n, 0, 0); err != nil {
			return explain(err, "ambient "+plan.CapabilityNames(1<<n))
		}
	}
	return nil
}

func setRlimit(s *plan.Rlimit) error {
	limit := &[2]uint64{s.Soft, s.Hard}
	err := just(sysPrlimit, 0, uintptr(s.Resource), ptr(limit), 0)
	if err != syscall.EPERM {
		return err
	}
	return explain(err, "the hard limit is above what Berth or the kernel allows")
}

func setScheduler(s *plan.Scheduler) error {
	type attr struct { // struct sched_attr
		size, policy      uint32
		flags             uint64
		nice              int32
		priority          uint32
		runtime, deadline uint64
		period            uint64
		_                 [2]uint32
	}
	a := &attr{
		size: sizeofSchedAttr, policy: s.Policy, flags: s.Flags, nice: s.Nice, priority: s.Priority,
		runtime: s.Runtime, deadline: s.Deadline, period: s.Period,
	}
	return just(sysSchedSetattr, 0, ptr(a), 0)
}
