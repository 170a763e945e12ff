package namespace

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// PinUser is Pin with a user namespace that owns the others: a process in it is
// their root, and has no power over the host's. setup runs in all of the others
// with the rights of the host.
func PinUser(dir string, m Mapping, kinds []Kind, setup func() error) (map[Kind]string, error) {
	attr := &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: m.UIDs.forExec(),
		GidMappings: m.GIDs.forExec(),
		// Containers change their groups.
		GidMappingsEnableSetgroups: true,
	}
	for _, k := range kinds {
		if err := checkUnshared(k); err != nil {
			return nil, err
		}
		attr.Cloneflags |= uintptr(k.CloneFlag())
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("pin namespaces: %w", err)
	}
	pins := map[Kind]string{}
	err := WithChild(attr, func(pid int) error {
		of := func(k Kind) string { return "/proc/" + strconv.Itoa(pid) + "/ns/" + string(k) }
		if err := setUp(kinds, of, setup); err != nil {
			return fmt.Errorf("set up namespaces: %w", err)
		}
		for _, k := range append([]Kind{User}, kinds...) {
			path := Path(dir, k)
			if err := bind(of(k), path); err != nil {
				return fmt.Errorf("pin %s namespace: %w", k, err)
			}
			pins[k] = path
		}
		return nil
	})
	if err == nil {
		return pins, nil
	}
	err = fmt.Errorf("in a new user namespace: %w", err)
	for _, path := range pins {
		err = errors.Join(err, unpin(path))
	}
	_ = os.Remove(dir) // only when empty, so only when nobody else uses it
	return nil, err
}

// setUp runs setup on a thread in the namespaces.
func setUp(kinds []Kind, of func(Kind) string, setup func() error) error {
	if setup == nil {
		return nil
	}
	return OnThread(func() error {
		for _, k := range kinds {
			fd, err := open(of(k), unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			err = retry(func() error { return unix.Setns(fd, k.CloneFlag()) })
			unix.Close(fd)
			if err != nil {
				return fmt.Errorf("join %s namespace: %w", k, err)
			}
		}
		return setup()
	})
}

// SetSysctl is SetSysctl in namespaces that belong to a user namespace of these
// ids (nil: the host's). Those of IPC the kernel leaves to root of that one alone
// (ipc_permissions, mq_permissions), so the calling thread becomes it meanwhile.
// For use in setup.
func (m *Mapping) SetSysctl(name, value string) error {
	file, err := sysctlFile(name)
	if err != nil || m == nil || !isIPC(file) {
		return SetSysctl(name, value)
	}
	if err := setEffectiveUser(m.UIDs.Host); err != nil {
		return fmt.Errorf("set sysctl %q: become its owner: %w", name, err)
	}
	err = SetSysctl(name, value)
	// With the effective user the capabilities come back.
	return errors.Join(err, setEffectiveUser(0))
}

// setEffectiveUser is for the calling thread only; unix.Setresuid is for all.
func setEffectiveUser(uid uint32) error {
	const keep = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		return errno
	}
	return nil
}
