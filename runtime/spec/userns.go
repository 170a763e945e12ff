package spec

import (
	"fmt"
	"math"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-cri/berth/linux/namespace"
)

const usernsField = securityContext + "namespace_options.userns_options"

// validateUserns keeps to what the kubelet sends: one mapping for users and one
// for groups, each from id 0 on. Processes and IPC of the host are nothing that
// root of a user namespace has a right to.
func validateUserns(o *runtimeapi.NamespaceOption) error {
	u := o.GetUsernsOptions()
	switch {
	case !hasUserns(o) && u.GetMode() != runtimeapi.NamespaceMode_POD && u.GetMode() != runtimeapi.NamespaceMode_NODE:
		return invalid(usernsField+".mode", u.GetMode(), "must be POD or NODE")
	case !hasUserns(o) && len(u.GetUids())+len(u.GetGids()) > 0:
		return invalid(usernsField+".uids", "", "the host's user namespace has no mappings to choose")
	case !hasUserns(o):
		return nil
	case o.GetPid() == runtimeapi.NamespaceMode_NODE:
		return invalid(usernsField, o.GetPid(), "a user namespace excludes the host's PID namespace")
	case o.GetIpc() == runtimeapi.NamespaceMode_NODE:
		return invalid(usernsField, o.GetIpc(), "a user namespace excludes the host's IPC namespace")
	}
	if err := validateMapping(usernsField+".uids", u.GetUids()); err != nil {
		return err
	}
	return validateMapping(usernsField+".gids", u.GetGids())
}

func validateMapping(field string, list []*runtimeapi.IDMapping) error {
	if len(list) != 1 {
		return invalid(field, len(list), "must be exactly one mapping")
	}
	m := list[0]
	switch {
	case m.GetContainerId() != 0:
		return invalid(field+"[0].container_id", m.GetContainerId(), "must be 0, the container's root")
	case m.GetLength() == 0:
		return invalid(field+"[0].length", 0, "must not be 0")
	case uint64(m.GetHostId())+uint64(m.GetLength()) > math.MaxUint32:
		return invalid(field+"[0].length", m.GetLength(), fmt.Sprintf("goes beyond id %d", uint32(math.MaxUint32-1)))
	}
	return nil
}

// hasUserns says whether a user namespace of the pod's own is asked for. CRI: a
// request without the options is one of an old kubelet, that knows none.
func hasUserns(o *runtimeapi.NamespaceOption) bool {
	u := o.GetUsernsOptions()
	return u != nil && u.GetMode() == runtimeapi.NamespaceMode_POD
}

// UserMapping are the ids of the user namespace that valid options ask for; nil
// for the host's.
func UserMapping(o *runtimeapi.NamespaceOption) *namespace.Mapping {
	if !hasUserns(o) {
		return nil
	}
	of := func(list []*runtimeapi.IDMapping) namespace.Range {
		if len(list) == 0 { // not valid, as a record on disk may be
			return namespace.Range{}
		}
		return namespace.Range{Host: list[0].GetHostId(), Length: list[0].GetLength()}
	}
	u := o.GetUsernsOptions()
	return &namespace.Mapping{UIDs: of(u.GetUids()), GIDs: of(u.GetGids())}
}

// validateMountMapping takes a mapping that is the container's own, the only one
// that the kubelet asks for.
func validateMountMapping(field string, m *runtimeapi.Mount, o *runtimeapi.NamespaceOption) error {
	if hasUserns(o) && m.GetPropagation() == runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL {
		return invalid(field+".propagation", m.GetPropagation(), "the host shares no mounts of a user namespace")
	}
	if len(m.GetUidMappings())+len(m.GetGidMappings()) == 0 {
		return nil
	}
	if !hasUserns(o) {
		return invalid(field+".uidMappings", "", "needs a user namespace")
	}
	if !sameMapping(m.GetUidMappings(), o.GetUsernsOptions().GetUids()) || !sameMapping(m.GetGidMappings(), o.GetUsernsOptions().GetGids()) {
		return invalid(field+".uidMappings", "", "uidMappings and gidMappings must be those of the user namespace")
	}
	return nil
}

func sameMapping(a, b []*runtimeapi.IDMapping) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !proto.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// userns puts the container into the pod's user namespace. CRI: both must agree.
func userns(in *Input, s *specs.Spec) error {
	own, pod := in.security().GetNamespaceOptions(), in.Pod.Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if hasUserns(own) != hasUserns(pod) || hasUserns(own) &&
		(!sameMapping(own.UsernsOptions.Uids, pod.UsernsOptions.Uids) || !sameMapping(own.UsernsOptions.Gids, pod.UsernsOptions.Gids)) {
		return invalid(usernsField, own.GetUsernsOptions(), "must be the pod's: "+pod.GetUsernsOptions().String())
	}
	if in.Pod.User == nil {
		return nil
	}
	path := in.Pod.Namespaces[specs.UserNamespace]
	if path == "" {
		return fmt.Errorf("the pod has no user namespace: %w", errdefs.ErrInternal)
	}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: path})
	s.Linux.UIDMappings, s.Linux.GIDMappings = mapping(in.Pod.User.UIDs), mapping(in.Pod.User.GIDs)
	return nil
}

// mappedIDs refuses users and groups that the container's user namespace does not
// have. A device of such an owner belongs to its root.
func mappedIDs(in *Input, s *specs.Spec) error {
	if in.Pod.User == nil {
		return nil
	}
	u := s.Process.User
	if _, ok := in.Pod.User.UIDs.ToHost(u.UID); !ok {
		return invalid("user", u.UID, fmt.Sprintf("the user namespace has the users 0 to %d", in.Pod.User.UIDs.Length-1))
	}
	for _, id := range append([]uint32{u.GID}, u.AdditionalGids...) {
		if _, ok := in.Pod.User.GIDs.ToHost(id); !ok {
			return invalid("group", id, fmt.Sprintf("the user namespace has the groups 0 to %d", in.Pod.User.GIDs.Length-1))
		}
	}
	for i := range s.Linux.Devices {
		d := &s.Linux.Devices[i]
		if d.UID != nil && *d.UID >= in.Pod.User.UIDs.Length {
			d.UID = nil
		}
		if d.GID != nil && *d.GID >= in.Pod.User.GIDs.Length {
			d.GID = nil
		}
	}
	return nil
}

func mapping(r namespace.Range) []specs.LinuxIDMapping {
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: r.Host, Size: r.Length}}
}

// throughUserns shows a mount through the container's user namespace.
func throughUserns(in *Input, m *specs.Mount) {
	if in.Pod.User != nil {
		m.UIDMappings, m.GIDMappings = mapping(in.Pod.User.UIDs), mapping(in.Pod.User.GIDs)
	}
}

// publicDevices are what a privileged container in a user namespace gets of the
// host's devices: those that anybody may use, as anybody. It is no user of the
// host.
func publicDevices(list []specs.LinuxDevice) []specs.LinuxDevice {
	var out []specs.LinuxDevice
	for _, d := range list {
		if d.FileMode == nil || *d.FileMode&0o006 == 0 {
			continue
		}
		others := *d.FileMode & 0o006
		mode := os.FileMode(others | others<<3 | others<<6)
		d.FileMode, d.UID, d.GID = &mode, nil, nil
		out = append(out, d)
	}
	return out
}
