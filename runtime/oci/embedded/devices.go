package embedded

import (
	"os"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// The devices and links that the runtime-spec gives to every container.
var (
	defaultDevices = []plan.Device{
		{Path: "/dev/null", Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3},
		{Path: "/dev/zero", Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 5},
		{Path: "/dev/full", Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 7},
		{Path: "/dev/random", Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 8},
		{Path: "/dev/urandom", Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 9},
		{Path: "/dev/tty", Mode: unix.S_IFCHR | 0o666, Major: 5, Minor: 0},
	}
	defaultLinks = []plan.Symlink{
		{Path: "/dev/fd", Target: "/proc/self/fd"},
		{Path: "/dev/stdin", Target: "/proc/self/fd/0"},
		{Path: "/dev/stdout", Target: "/proc/self/fd/1"},
		{Path: "/dev/stderr", Target: "/proc/self/fd/2"},
		{Path: "/dev/ptmx", Target: "pts/ptmx"},
	}
)

// devices are not made when /dev is one of the host: they would be made there.
func (c *compilation) devices() error {
	for _, s := range c.steps {
		if out, ok := s.(*plan.Outside); ok {
			s = out.Step
		}
		if b, ok := s.(*plan.Bind); ok && b.Target == "/dev" {
			return nil
		}
	}
	list := slices.Clone(defaultDevices)
	for i, d := range c.spec.Linux.Devices {
		step, err := device(d)
		if err != nil {
			return in("linux.devices["+strconv.Itoa(i)+"] "+d.Path, err)
		}
		same := func(other plan.Device) bool { return other.Path == step.Path }
		if at := slices.IndexFunc(list, same); at >= 0 {
			list[at] = step
		} else {
			list = append(list, step)
		}
	}
	for _, d := range list {
		if err := c.addDevice(d); err != nil {
			return err
		}
	}
	for _, l := range defaultLinks {
		c.add(&l)
	}
	if _, err := os.Lstat("/proc/kcore"); err == nil { // a kernel may be without
		c.add(&plan.Symlink{Path: "/dev/core", Target: "/proc/kcore"})
	}
	return nil
}

func device(d specs.LinuxDevice) (plan.Device, error) {
	kinds := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}
	kind, ok := kinds[d.Type]
	if !ok {
		return plan.Device{}, invalid("type "+d.Type, "is not known")
	}
	if d.Major < 0 || d.Major > 0xfff || d.Minor < 0 || d.Minor > 0xfffff {
		return plan.Device{}, invalid("number", "is out of range")
	}
	step := plan.Device{Path: inside(d.Path), Mode: kind | 0o666, Major: uint32(d.Major), Minor: uint32(d.Minor)}
	if d.FileMode != nil {
		step.Mode = kind | uint32(*d.FileMode)&0o7777
	}
	if d.UID != nil {
		step.UID = *d.UID
	}
	if d.GID != nil {
		step.GID = *d.GID
	}
	return step, nil
}
