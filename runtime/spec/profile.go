package spec

import (
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// profileOf reads a security profile of the request: the typed field, else the
// deprecated string. Nil when neither is set.
func profileOf(field string, p *runtimeapi.SecurityProfile, oldField, old string) (*runtimeapi.SecurityProfile, error) {
	if p == nil {
		return oldProfile(oldField, old)
	}
	switch p.GetProfileType() {
	case runtimeapi.SecurityProfile_RuntimeDefault, runtimeapi.SecurityProfile_Unconfined:
		if p.GetLocalhostRef() != "" {
			return nil, invalid(field+".localhost_ref", p.GetLocalhostRef(), "only a Localhost profile has one")
		}
	case runtimeapi.SecurityProfile_Localhost:
		// Clients of the old form leave its prefix in.
		p = &runtimeapi.SecurityProfile{ProfileType: p.GetProfileType(), LocalhostRef: strings.TrimPrefix(p.GetLocalhostRef(), "localhost/")}
		if p.GetLocalhostRef() == "" {
			return nil, invalid(field+".localhost_ref", "", "a Localhost profile needs one")
		}
	default:
		return nil, invalid(field+".profile_type", p.GetProfileType().String(), "unknown")
	}
	return p, nil
}

func oldProfile(field, text string) (*runtimeapi.SecurityProfile, error) {
	ref, local := strings.CutPrefix(text, "localhost/")
	switch {
	case text == "":
		return nil, nil
	case text == "runtime/default", text == "docker/default":
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, nil
	case text == "unconfined":
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, nil
	case local && ref != "":
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: ref}, nil
	}
	return nil, invalid(field, text, "must be runtime/default, unconfined or localhost/PROFILE")
}

// seccompProfile is that of a container, or of a sandbox, which has no process
// that it could be for.
func seccompProfile(sc interface {
	GetSeccomp() *runtimeapi.SecurityProfile
	GetSeccompProfilePath() string
}) (*runtimeapi.SecurityProfile, error) {
	p, err := profileOf(securityContext+"seccomp", sc.GetSeccomp(), securityContext+"seccomp_profile_path", sc.GetSeccompProfilePath())
	if err == nil && p.GetProfileType() == runtimeapi.SecurityProfile_Localhost && !strings.HasPrefix(p.GetLocalhostRef(), "/") {
		return nil, invalid(securityContext+"seccomp.localhost_ref", p.GetLocalhostRef(), "must be an absolute path")
	}
	return p, err
}

func apparmorProfile(sc *runtimeapi.LinuxContainerSecurityContext) (*runtimeapi.SecurityProfile, error) {
	//lint:ignore SA1019 critest still sets it
	return profileOf(securityContext+"apparmor", sc.GetApparmor(), securityContext+"apparmor_profile", sc.GetApparmorProfile())
}
