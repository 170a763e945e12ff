package spec

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// apparmor confines the container. On a host without AppArmor the default
// profile is silently none, as everywhere in Kubernetes; a profile that somebody
// chose is an error. A privileged container is confined only by such a one.
func apparmor(in *Input, s *specs.Spec) error {
	p, err := apparmorProfile(in.security())
	if err != nil {
		return err
	}
	host := in.Node.Host
	switch {
	case p.GetProfileType() == runtimeapi.SecurityProfile_Localhost:
		if !host.AppArmor {
			return fmt.Errorf("linux.security_context.apparmor: profile %q: this host has no AppArmor: %w", p.GetLocalhostRef(), errdefs.ErrFailedPrecondition)
		}
		s.Process.ApparmorProfile = p.GetLocalhostRef()
	case p.GetProfileType() == runtimeapi.SecurityProfile_Unconfined, in.privileged(), !host.AppArmor:
	case p != nil && host.AppArmorDefault == "":
		return fmt.Errorf("linux.security_context.apparmor: RuntimeDefault: no default AppArmor profile is loaded: %w", errdefs.ErrNotImplemented)
	default:
		s.Process.ApparmorProfile = host.AppArmorDefault
	}
	return nil
}
