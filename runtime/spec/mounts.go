package spec

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// mounts lists Berth's own file systems, then what the request and the pod bind,
// parents before children. Whatever the request mounts takes the place of what
// Berth would have mounted there.
func mounts(in *Input, s *specs.Spec) error {
	asked := in.Config.GetMounts()
	if len(asked) != len(in.Resolved.Mounts) {
		return fmt.Errorf("%d mounts in the request, %d were prepared: %w", len(asked), len(in.Resolved.Mounts), errdefs.ErrInternal)
	}
	taken := map[string]bool{}
	var binds []specs.Mount
	for i, m := range asked {
		b, err := volume(in, m, in.Resolved.Mounts[i], s)
		if err != nil {
			return fmt.Errorf("mounts[%d]: %w", i, err)
		}
		taken[b.Destination] = true
		binds = append(binds, b)
	}
	for _, m := range podMounts(in) {
		if !taken[m.Destination] {
			taken[m.Destination] = true
			binds = append(binds, m)
		}
	}
	for _, m := range ownMounts(in) {
		// Below a /dev of the request nothing of Berth's can be: it may be read-only.
		if !taken[m.Destination] && !(taken["/dev"] && strings.HasPrefix(m.Destination, "/dev/")) {
			s.Mounts = append(s.Mounts, m)
		}
	}
	depth := func(m specs.Mount) int { return strings.Count(m.Destination, "/") }
	slices.SortStableFunc(binds, func(a, b specs.Mount) int { return depth(a) - depth(b) })
	s.Mounts = append(s.Mounts, binds...)
	return nil
}

// volume translates one mount of the request.
func volume(in *Input, m *runtimeapi.Mount, from Source, s *specs.Spec) (specs.Mount, error) {
	if IsImageVolume(m) {
		out := imageVolume(m, from.Layers)
		if len(from.Layers) > 0 {
			throughUserns(in, &out)
		}
		out.Options = append(out.Options, m.GetMountOptions()...)
		return out, nil
	}
	propagateRoot(s, m.GetPropagation())
	out, err := bind(m, from)
	out.Options = append(out.Options, m.GetMountOptions()...)
	if len(m.GetUidMappings()) > 0 {
		throughUserns(in, &out)
	}
	return out, err
}

// bind translates a mount of a path of the host. A read-only root does not make
// mounts read-only: the kubelet says so for each.
func bind(m *runtimeapi.Mount, from Source) (specs.Mount, error) {
	options := []string{"rbind"}
	switch m.GetPropagation() {
	case runtimeapi.MountPropagation_PROPAGATION_PRIVATE:
		options = append(options, "rprivate")
	case runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		if !from.Shared && !from.Slave {
			return specs.Mount{}, fmt.Errorf("path %q is mounted on %q but it is not a shared or slave mount: %w", from.Path, from.MountPoint, errdefs.ErrFailedPrecondition)
		}
		options = append(options, "rslave")
	case runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		if !from.Shared {
			return specs.Mount{}, fmt.Errorf("path %q is mounted on %q but it is not a shared mount: %w", from.Path, from.MountPoint, errdefs.ErrFailedPrecondition)
		}
		options = append(options, "rshared")
	}
	switch {
	case m.GetRecursiveReadOnly():
		options = append(options, "rro")
	case m.GetReadonly():
		options = append(options, "ro")
	}
	// Else it stays what it is on the host: the option "rw" would make a mount
	// writable that somebody made read-only there.
	return specs.Mount{Destination: path.Clean(m.GetContainerPath()), Type: "bind", Source: from.Path, Options: options}, nil
}

// propagateRoot keeps the container's root at least as open as its mounts: a
// private root would cut them off.
func propagateRoot(s *specs.Spec, p runtimeapi.MountPropagation) {
	switch {
	case p == runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		s.Linux.RootfsPropagation = "rshared"
	case p == runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER && s.Linux.RootfsPropagation == "":
		s.Linux.RootfsPropagation = "rslave"
	}
}

// podMounts are the pod's files and its shared memory.
func podMounts(in *Input) []specs.Mount {
	mode := "rw"
	if in.security().GetReadonlyRootfs() {
		mode = "ro"
	}
	shm := in.Pod.Shm
	if in.Pod.Namespaces[specs.IPCNamespace] == "" {
		shm = "/dev/shm" // the host's IPC goes with the host's POSIX shared memory
	}
	var out []specs.Mount
	for _, f := range []struct{ path, source, mode string }{
		{"/etc/hostname", in.Pod.Hostname, mode},
		{"/etc/hosts", in.Pod.Hosts, mode},
		{"/etc/resolv.conf", in.Pod.ResolvConf, mode},
		{"/dev/shm", shm, "rw"},
	} {
		if f.source != "" {
			out = append(out, specs.Mount{Destination: f.path, Type: "bind", Source: f.source, Options: []string{"rbind", "rprivate", f.mode}})
		}
	}
	return out
}

// ownMounts are the file systems that every container has. With the host's
// network sysfs is mounted anew as well: it shows the host's devices then, and
// does not drag the host's mounts below /sys along.
func ownMounts(in *Input) []specs.Mount {
	mode := "ro"
	if in.privileged() {
		mode = "rw"
	}
	cgroup := []string{"nosuid", "noexec", "nodev", "relatime", mode}
	// Without a cgroup namespace the mount shares the host's superblock and would
	// reset its options.
	if in.Node.Host.CgroupV2 && in.privileged() && in.Pod.User == nil {
		cgroup = append(cgroup, in.Node.Host.CgroupOptions...)
	}
	sys := specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", mode}}
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}
	if user := in.Pod.User; user != nil {
		if in.Pod.Namespaces[specs.NetworkNamespace] == "" {
			// The host's network, which sysfs would show, is not the container's.
			sys = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev", "rro"}}
		}
		if _, ok := user.GIDs.ToHost(5); !ok {
			pts = pts[:len(pts)-1]
		}
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		sys,
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: cgroup},
	}
}
