package spec

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// namespaces joins the pod's and adds the container's own. A type that is not
// listed stays the host's.
func namespaces(in *Input, s *specs.Spec) error {
	own := func(t specs.LinuxNamespaceType) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t})
	}
	join := func(t specs.LinuxNamespaceType, path string) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
	}
	own(specs.MountNamespace)
	// On v1 the whole hierarchy is visible anyway, and privileged containers are
	// there to manage the host (KEP-2254, cgroup namespace), unless they are in a
	// user namespace.
	if in.Node.Host.CgroupV2 && (!in.privileged() || in.Pod.User != nil) {
		own(specs.CgroupNamespace)
	}
	options := in.security().GetNamespaceOptions()
	for _, n := range []struct {
		kind  specs.LinuxNamespaceType
		field string
		mode  runtimeapi.NamespaceMode
	}{
		{specs.NetworkNamespace, "network", options.GetNetwork()},
		{specs.IPCNamespace, "ipc", options.GetIpc()},
		{specs.UTSNamespace, "", runtimeapi.NamespaceMode_POD}, // follows the network, which is the pod's decision
	} {
		path := in.Pod.Namespaces[n.kind]
		if path != "" && n.mode == runtimeapi.NamespaceMode_NODE {
			return contradicts(n.field, n.mode, "the pod has a namespace of its own")
		}
		if path != "" {
			join(n.kind, path)
		}
	}
	path := in.Pod.Namespaces[specs.PIDNamespace]
	podMode := in.Pod.Config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetPid()
	switch mode := options.GetPid(); mode {
	case runtimeapi.NamespaceMode_CONTAINER:
		own(specs.PIDNamespace)
	case runtimeapi.NamespaceMode_TARGET:
		if in.Pod.TargetPID == "" {
			return contradicts("pid", mode, fmt.Sprintf("container %q has no PID namespace to join", options.GetTargetId()))
		}
		join(specs.PIDNamespace, in.Pod.TargetPID)
	case runtimeapi.NamespaceMode_NODE:
		if podMode != runtimeapi.NamespaceMode_NODE {
			return contradicts("pid", mode, "the pod was created with "+podMode.String())
		}
	case runtimeapi.NamespaceMode_POD:
		// The zero value: "the pod's", whatever that is.
		switch {
		case path != "":
			join(specs.PIDNamespace, path)
		case podMode != runtimeapi.NamespaceMode_NODE:
			return contradicts("pid", mode, "the pod was created with "+podMode.String()+" and has no PID namespace to share")
		}
	}
	return nil
}

func contradicts(field string, mode runtimeapi.NamespaceMode, reason string) error {
	return fmt.Errorf("linux.security_context.namespace_options.%s: %s: %s: %w", field, mode, reason, errdefs.ErrInvalidArgument)
}
