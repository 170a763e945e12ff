package embedded

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// inProc are the places in /proc that may be mounted over, as with runc: they
// only inform, and lxcfs shows a container its own numbers there.
var inProc = []string{
	"/proc", "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps",
	"/proc/uptime", "/proc/loadavg", "/proc/slabinfo", "/proc/sys/kernel/ns_last_pid",
	"/proc/sys/crypto/fips_enabled",
}

func (c *compilation) mounts() error {
	for i, m := range c.spec.Mounts {
		if err := c.mount(m); err != nil {
			return in("mounts["+strconv.Itoa(i)+"] at "+m.Destination, err)
		}
	}
	return nil
}

func (c *compilation) mount(m specs.Mount) error {
	target := inside(m.Destination)
	if target == "/" {
		return invalid("destination", "is the root")
	}
	allowed := slices.Contains(inProc, target)
	if strings.HasPrefix(target, "/proc/") && !allowed {
		return invalid("destination", "is in /proc")
	}
	o, err := parseOptions(m.Options)
	if err != nil {
		return err
	}
	if err := c.mapsIDs(m, &o); err != nil {
		return err
	}
	if c.user != nil && o.propagation&unix.MS_SHARED != 0 {
		return invalid("propagation", "is shared, and mounts in a user namespace are not shared with the host")
	}
	switch {
	case m.Type == "bind" || o.bind:
		return c.bind(m.Source, target, o, allowed)
	case m.Type == "overlay" && !o.writable():
		return c.overlay(target, o)
	case o.idmap:
		return unsupported("an id-mapped mount of type " + m.Type)
	case o.subdir != "":
		return unsupported("option " + subdirOption + " of type " + m.Type)
	case m.Type == "cgroup":
		return c.cgroup(target, o)
	case m.Type == "":
		return invalid("type", "is missing")
	}
	if m.Type == "tmpfs" || target == "/dev" {
		// Mount points and devices are still made in it.
		if o.own.set&unix.MOUNT_ATTR_RDONLY != 0 {
			c.readonly = append(c.readonly, target)
		}
		o.own.set &^= unix.MOUNT_ATTR_RDONLY
	}
	label := ""
	switch m.Type {
	case "proc", "sysfs":
	case "mqueue":
		// It is one file system for the whole IPC namespace, which exists already: with
		// another label than that one's it cannot be mounted.
		label = c.spec.Linux.MountLabel
	default:
		o.data = append(o.data, c.label()...)
	}
	step := &plan.Mount{
		Type: m.Type, Source: m.Source, Target: target, Options: o.data,
		Attributes: o.own.set, Changes: o.changes(false),
		InProc: allowed, PlainTarget: m.Type == "proc" || m.Type == "sysfs", Label: label,
	}
	if m.Type == "tmpfs" && target == "/dev" {
		c.ownDev(step)
	} else {
		c.add(step)
	}
	return nil
}

func (c *compilation) bind(source, target string, o options, inProc bool) error {
	if !filepath.IsAbs(source) {
		return invalid("source", "is not an absolute path")
	}
	if len(o.data) > 0 {
		if superblockOptions[o.data[0]] {
			return invalid("option "+o.data[0], "is of a file system, and this is a bind mount")
		}
		return invalid("option "+o.data[0], "is not known for a bind mount")
	}
	if o.subdir != "" {
		if o.recursive {
			return unsupported("option " + subdirOption + " of a recursive bind mount")
		}
		c.addOutside(&plan.Layers{Lower: []string{filepath.Clean(source)}, SubPath: o.subdir, Target: target, Changes: o.changes(true)})
		return nil
	}
	changes := o.changes(true)
	if o.idmap {
		changes = append([]plan.Change{{Set: unix.MOUNT_ATTR_IDMAP, Recursive: o.ridmap}}, changes...)
	}
	c.addOutside(&plan.Bind{
		Source: filepath.Clean(source), Target: target, Recursive: o.recursive, Changes: changes, InProc: inProc,
	})
	return nil
}

// changes are the calls that give a mount its attributes. A new file system has
// its own ones from the start.
func (o options) changes(own bool) []plan.Change {
	var list []plan.Change
	recursive := o.propagation&unix.MS_REC != 0
	first := plan.Change{Recursive: recursive, Propagation: o.propagation &^ unix.MS_REC}
	if own && !recursive {
		first.Set, first.Clear = o.own.set, o.own.clear
	} else if own && o.own != (attribute{}) {
		list = append(list, plan.Change{Set: o.own.set, Clear: o.own.clear})
	}
	if first != (plan.Change{}) {
		list = append(list, first)
	}
	if o.below != (attribute{}) {
		list = append(list, plan.Change{Recursive: true, Set: o.below.set, Clear: o.below.clear})
	}
	return list
}

// cgroup mounts what the host has: cgroup2, or a view of cgroup v1.
func (c *compilation) cgroup(target string, o options) error {
	host, err := hostCgroups()
	if err != nil {
		return err
	}
	if host.unified {
		c.add(&plan.Mount{
			Type: "cgroup2", Source: "cgroup", Target: target, Options: o.data,
			Attributes: o.own.set, Changes: o.changes(false),
		})
		return nil
	}
	if len(o.data) > 0 {
		return invalid("option "+o.data[0], "is not known for cgroup v1")
	}
	if o.below != (attribute{}) || o.propagation != 0 {
		return invalid("options", "have more than attributes of the mount itself")
	}
	c.add(&plan.CgroupV1{
		Target: target, Attributes: o.own.set, Hierarchies: host.hierarchies, Links: host.links,
	})
	return nil
}
