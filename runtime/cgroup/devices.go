package cgroup

import (
	"fmt"

	"github.com/containerd/errdefs"
	lib "github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // gives lib its DevicesSetV1 and DevicesSetV2
	rules "github.com/opencontainers/cgroups/devices/config"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// limitDevices gives the cgroup its device rules: through v1's controller, or
// as an eBPF program on the cgroup2.
func (c *Cgroup) limitDevices(list []specs.LinuxDeviceCgroup) error {
	res := &lib.Resources{}
	for n, d := range list {
		rule, err := deviceRule(d)
		if err != nil {
			return fmt.Errorf("devices[%d]: %w", n, err)
		}
		res.Devices = append(res.Devices, rule)
	}
	var err error
	if i, ok := c.m.place["devices"]; ok {
		err = lib.DevicesSetV1(c.m.trees[i].dir(c.path), res)
	} else if c.m.unify >= 0 {
		err = lib.DevicesSetV2(c.m.trees[c.m.unify].dir(c.path), res)
	} else {
		err = fmt.Errorf("neither a devices controller nor a cgroup2 here: %w", errdefs.ErrNotImplemented)
	}
	if err != nil {
		return fmt.Errorf("devices: %w", err)
	}
	return nil
}

func deviceRule(d specs.LinuxDeviceCgroup) (*rules.Rule, error) {
	r := &rules.Rule{
		Type: rules.WildcardDevice, Major: rules.Wildcard, Minor: rules.Wildcard,
		Permissions: rules.Permissions(d.Access), Allow: d.Allow,
	}
	switch d.Type {
	case "", "a":
	case "b", "c":
		r.Type = rules.Type(d.Type[0])
	case "u": // mknod's name for an unbuffered character device
		r.Type = rules.CharDevice
	default:
		return nil, fmt.Errorf("type %q: %w", d.Type, errdefs.ErrInvalidArgument)
	}
	if d.Major != nil {
		r.Major = *d.Major
	}
	if d.Minor != nil {
		r.Minor = *d.Minor
	}
	if r.Permissions == "" && r.Type == rules.WildcardDevice {
		r.Permissions = "rwm"
	}
	if r.Permissions == "" {
		return nil, fmt.Errorf("no access given: %w", errdefs.ErrInvalidArgument)
	}
	for _, p := range r.Permissions {
		if p != 'r' && p != 'w' && p != 'm' {
			return nil, fmt.Errorf("access %q: %w", d.Access, errdefs.ErrInvalidArgument)
		}
	}
	return r, nil
}
