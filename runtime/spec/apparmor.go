package spec

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// AppArmor is that of the host.
type AppArmor interface {
	// Absent says why containers cannot be confined, NoDefault why there is no
	// default profile for them; nil: they can, there is.
	Absent() error
	NoDefault() error
	// Default is the default profile, which it has loaded.
	Default() (string, error)
	// Loaded is nil if the kernel has the profile.
	Loaded(profile string) error
}

// findAppArmor is the profile that confines the container; empty: none.
//
// A container that asks for nothing gets the default profile where there is one,
// as everywhere in Kubernetes (kubernetes#51746). A privileged one is confined
// only by a profile of its own (containerd's sputil.GenerateApparmorSpecOpts).
// What was asked for and cannot be is an error, the default profile too.
func findAppArmor(sc *runtimeapi.LinuxContainerSecurityContext, host AppArmor) (string, error) {
	p, err := apparmorProfile(sc)
	if err != nil {
		return "", err
	}
	profile := ""
	switch kind := p.GetProfileType(); {
	case p != nil && kind == runtimeapi.SecurityProfile_Unconfined:
		// By its name: else a profile of the host that is for the program's path
		// would confine it, or Berth's own would go on.
		if host.Absent() == nil {
			profile = "unconfined"
		}
	case p != nil && kind == runtimeapi.SecurityProfile_Localhost:
		profile, err = p.GetLocalhostRef(), host.Loaded(p.GetLocalhostRef())
	case sc.GetPrivileged():
	case p == nil && host.NoDefault() != nil:
	default:
		if err = host.NoDefault(); err == nil {
			profile, err = host.Default()
		}
	}
	if err != nil {
		return "", fmt.Errorf("linux.security_context.apparmor: %w", err)
	}
	return profile, nil
}

func apparmor(in *Input, s *specs.Spec) error {
	s.Process.ApparmorProfile = in.Resolved.AppArmorProfile
	return nil
}

func selinuxLabels(in *Input, s *specs.Spec) error {
	s.Process.SelinuxLabel, s.Linux.MountLabel = in.ProcessLabel, in.MountLabel
	return nil
}
