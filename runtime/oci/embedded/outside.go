package embedded

import (
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// forkOutside starts the berth-init that does the Outside steps of the plan, and
// lets it begin. trees is the end of a socket where it hands over what it makes.
func (l *Launcher) forkOutside(s Start) (c *child, trees int, err error) {
	if !s.Prepared.Outside {
		return nil, -1, nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, stepError("socket for mounts", err)
	}
	c, err = l.clone(Start{Plan: s.Plan, Prepared: Prepared{CloneFlags: unix.CLONE_NEWNS}}, pair[0])
	unix.Close(pair[0])
	if err != nil {
		unix.Close(pair[1])
		return nil, -1, err
	}
	message, err := plan.Release{Outside: true}.Append(nil)
	if err == nil {
		_, err = c.control.Write(message)
	}
	if err != nil {
		unix.Close(pair[1])
		c.leave()
		return nil, -1, stepError("control socket", err)
	}
	return c, pair[1], nil
}

// leave ends a child that has no more to do.
func (c *child) leave() {
	c.end()
	c.control.Close()
}
