package namespace

import "syscall"

// Range maps ids of a user namespace, from 0 on, to ids of the host.
type Range struct {
	Host   uint32 `json:"host"`
	Length uint32 `json:"length"`
}

// ToHost is the host's id for one of the namespace; false for one that is not
// mapped.
func (r Range) ToHost(id uint32) (uint32, bool) { return r.Host + id, id < r.Length }

// Mapping are the ids of a user namespace.
type Mapping struct {
	UIDs Range `json:"uids"`
	GIDs Range `json:"gids"`
}

// Owner are the host's ids of a user and a group of the namespace. What is not
// mapped belongs to the namespace's root; without a namespace (nil), ids are the
// host's.
func (m *Mapping) Owner(uid, gid uint32) (hostUID, hostGID uint32) {
	if m == nil {
		return uid, gid
	}
	hostUID, hostGID = m.UIDs.Host, m.GIDs.Host
	if id, ok := m.UIDs.ToHost(uid); ok {
		hostUID = id
	}
	if id, ok := m.GIDs.ToHost(gid); ok {
		hostGID = id
	}
	return hostUID, hostGID
}

func (r Range) forExec() []syscall.SysProcIDMap {
	return []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(r.Host), Size: int(r.Length)}}
}
