package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// openTerminal makes a terminal in the container's own devpts, so that the
// program can open it by its name, and hands its master to the launcher.
func (c *container) openTerminal(s *plan.Terminal) error {
	master, err := c.inRoot("/dev/pts/ptmx", syscall.O_RDWR|syscall.O_NOCTTY)
	if err != nil {
		return explain(err, "/dev/pts/ptmx")
	}
	defer closeFd(master)
	if !onFilesystem(master, devptsSuperMagic) {
		return explained{syscall.ENODEV, "/dev/pts is not a devpts"}
	}
	unlock := new(int32)
	if err := just(syscall.SYS_IOCTL, fd(master), syscall.TIOCSPTLCK, ptr(unlock)); err != nil {
		return err
	}
	// Not by its name in /dev/pts, which the image could have prepared (CVE-2025-52565).
	slave, err := call(syscall.SYS_IOCTL, fd(master), tiocgptpeer, syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC)
	if err != nil {
		return err
	}
	if s.Rows != 0 || s.Columns != 0 {
		size := &[4]uint16{s.Rows, s.Columns}
		if err := just(syscall.SYS_IOCTL, fd(slave), syscall.TIOCSWINSZ, ptr(size)); err != nil {
			return err
		}
	}
	if s.UID != 0 {
		if err := just(syscall.SYS_FCHOWN, fd(slave), uintptr(s.UID), allFds); err != nil {
			return err
		}
	}
	if s.Console {
		if err := c.mountConsole(slave); err != nil {
			return explain(err, "/dev/console")
		}
	}
	c.terminal = slave
	return send(plan.ControlFd, plan.Console, []int{master})
}

func (c *container) mountConsole(slave int) error {
	tree, err := clone(slave, 0)
	if err != nil {
		return err
	}
	defer closeFd(tree)
	target, err := c.target("/dev/console", false)
	if err != nil {
		return err
	}
	defer closeFd(target)
	return attach(tree, target)
}

func (c *container) session() error {
	if err := just(syscall.SYS_SETSID); err != nil && err != syscall.EPERM {
		return err // EPERM: it is one already
	}
	if c.terminal < 0 {
		return nil
	}
	if err := just(syscall.SYS_IOCTL, fd(c.terminal), syscall.TIOCSCTTY, 0); err != nil {
		return err
	}
	for n := range 3 {
		if err := just(syscall.SYS_DUP3, fd(c.terminal), fd(n), 0); err != nil {
			return err
		}
	}
	closeFd(c.terminal)
	return nil
}
