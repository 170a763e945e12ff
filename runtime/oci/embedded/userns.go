package embedded

import (
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-cri/berth/linux/namespace"
	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// userNamespace is that of a container which is not the host's: the pod's, made
// and pinned before.
//
// What takes rights over the host a process in it cannot do: mounting layers and
// volumes under other ids, reaching what only root may reach, making devices.
// Such steps are wrapped into plan.Outside.
type userNamespace struct {
	path string
	ids  namespace.Mapping
}

// findUser reads the user namespace from the spec; nil for the host's.
func (c *compilation) findUser() error {
	l := c.spec.Linux
	mapped := len(l.UIDMappings)+len(l.GIDMappings) > 0
	at := slices.IndexFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	if at < 0 {
		if mapped {
			return invalid("linux.uidMappings or gidMappings", "need a user namespace")
		}
		return nil
	}
	path := l.Namespaces[at].Path
	if path == "" {
		return unsupported("linux.namespaces: a user namespace without a path")
	}
	uids, err := idRange("linux.uidMappings", l.UIDMappings)
	if err != nil {
		return err
	}
	gids, err := idRange("linux.gidMappings", l.GIDMappings)
	if err != nil {
		return err
	}
	c.user = &userNamespace{path: path, ids: namespace.Mapping{UIDs: uids, GIDs: gids}}
	c.prepared.Join = append(c.prepared.Join, Namespace{Type: specs.UserNamespace, Path: path})
	return nil
}

func idRange(field string, list []specs.LinuxIDMapping) (namespace.Range, error) {
	if len(list) != 1 || list[0].ContainerID != 0 {
		return namespace.Range{}, unsupported(field + ": other than one mapping, from id 0 on")
	}
	return namespace.Range{Host: list[0].HostID, Length: list[0].Size}, nil
}

// addOutside adds a step that takes rights over the host.
func (c *compilation) addOutside(s plan.Step) {
	if c.user == nil {
		c.add(s)
		return
	}
	c.prepared.Outside = true
	c.add(&plan.Outside{Step: s})
}

// openUser comes before everything that is shown through the user namespace.
func (c *compilation) openUser() error {
	if c.user != nil {
		c.addOutside(&plan.UserNamespace{Path: c.user.path})
	}
	return nil
}

// owner are the host's ids of ids of the container.
func (c *compilation) owner(what string, uid, gid uint32) (hostUID, hostGID uint32, err error) {
	if c.user == nil {
		return uid, gid, nil
	}
	if uid >= c.user.ids.UIDs.Length || gid >= c.user.ids.GIDs.Length {
		return 0, 0, invalid(what, "is of an id that the user namespace does not map")
	}
	hostUID, hostGID = c.user.ids.Owner(uid, gid)
	return hostUID, hostGID, nil
}

// mapsIDs finds out whether a mount is to be shown through the container's user
// namespace, the only one at hand. What is mounted below keeps its ids, as with
// runc, unless the option says otherwise.
func (c *compilation) mapsIDs(m specs.Mount, o *options) error {
	mapped := len(m.UIDMappings)+len(m.GIDMappings) > 0
	o.idmap = o.idmap || mapped
	if o.idmap && c.user == nil {
		return unsupported("an id-mapped mount without a user namespace")
	}
	if mapped && (!slices.Equal(m.UIDMappings, c.spec.Linux.UIDMappings) || !slices.Equal(m.GIDMappings, c.spec.Linux.GIDMappings)) {
		return unsupported("uidMappings and gidMappings other than the container's")
	}
	return nil
}

// ownDev makes the file system for /dev with the devices in it, which the host has
// to make: the container could neither make nor, otherwise, use them.
func (c *compilation) ownDev(m *plan.Mount) {
	if c.user == nil {
		c.add(m)
		return
	}
	m.Options = append(m.Options,
		"uid="+strconv.FormatUint(uint64(c.user.ids.UIDs.Host), 10),
		"gid="+strconv.FormatUint(uint64(c.user.ids.GIDs.Host), 10))
	c.addOutside(m)
	c.devOutside = true
}

// addDevice makes a node where the container may use it.
func (c *compilation) addDevice(d plan.Device) error {
	if c.user == nil || !c.devOutside || !strings.HasPrefix(d.Path, "/dev/") {
		c.add(&d)
		return nil
	}
	var err error
	if d.UID, d.GID, err = c.owner("device "+d.Path, d.UID, d.GID); err != nil {
		return err
	}
	c.addOutside(&d)
	return nil
}
