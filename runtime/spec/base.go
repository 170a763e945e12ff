package spec

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// request refuses what is wrong in itself or contradicts the pod.
func request(in *Input, _ *specs.Spec) error {
	if err := ValidateContainerConfig(in.Config); err != nil {
		return err
	}
	// CRI: a sandbox that is to run a privileged container says so when it is
	// made, so that it could take precautions otherwise.
	if in.privileged() && !in.Pod.Config.GetLinux().GetSecurityContext().GetPrivileged() {
		return fmt.Errorf("linux.security_context.privileged: the pod was not created as privileged: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// base is the frame that later steps fill.
func base(in *Input, s *specs.Spec) error {
	s.Version = specs.Version
	s.Root = &specs.Root{Path: "rootfs", Readonly: in.security().GetReadonlyRootfs()}
	s.Process = &specs.Process{NoNewPrivileges: in.security().GetNoNewPrivs()}
	s.Linux = &specs.Linux{CgroupsPath: in.CgroupsPath, Resources: &specs.LinuxResources{}}
	return nil
}
