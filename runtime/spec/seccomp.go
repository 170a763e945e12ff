package spec

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxProfile bounds a profile file. The largest in use have 20 KiB.
const maxProfile = 1 << 20

// seccomp sets the profile. None asked for means none (CRI: a nil profile is
// Unconfined), and privileged containers have none.
func seccomp(in *Input, s *specs.Spec) error {
	p, err := seccompProfile(in.security())
	if err != nil || p == nil || in.privileged() || p.GetProfileType() == runtimeapi.SecurityProfile_Unconfined {
		return err
	}
	if !in.Node.Host.Seccomp {
		return fmt.Errorf("linux.security_context.seccomp: %s: this kernel has no seccomp filters: %w", p.GetProfileType(), errdefs.ErrFailedPrecondition)
	}
	bounding := s.Process.Capabilities.Bounding
	switch {
	case p.GetProfileType() == runtimeapi.SecurityProfile_Localhost:
		if s.Linux.Seccomp, err = ParseProfile(in.Resolved.SeccompProfile, bounding); err != nil {
			return fmt.Errorf("seccomp profile %s: %w", p.GetLocalhostRef(), err)
		}
	case len(in.Node.SeccompDefault) > 0:
		if s.Linux.Seccomp, err = ParseProfile(in.Node.SeccompDefault, bounding); err != nil {
			return fmt.Errorf("the node's default seccomp profile: %w", err)
		}
	default:
		s.Linux.Seccomp, err = runtimeDefault(bounding)
	}
	return err
}

// ParseProfile reads a seccomp profile for a container with the given bounding
// set, in the OCI's form or in Docker's, whose rules may depend on capabilities,
// architecture and kernel.
func ParseProfile(text []byte, bounding []string) (*specs.LinuxSeccomp, error) {
	if len(text) > maxProfile {
		return nil, fmt.Errorf("the profile is larger than %d bytes: %w", maxProfile, errdefs.ErrInvalidArgument)
	}
	// The library trusts its rules to be there.
	var outline struct {
		DefaultAction specs.LinuxSeccompAction `json:"defaultAction"`
		Syscalls      []*json.RawMessage       `json:"syscalls"`
	}
	if err := json.Unmarshal(text, &outline); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if outline.DefaultAction == "" {
		return nil, fmt.Errorf("the profile has no defaultAction: %w", errdefs.ErrInvalidArgument)
	}
	if i := slices.Index(outline.Syscalls, nil); i >= 0 {
		return nil, fmt.Errorf("syscalls[%d] is null: %w", i, errdefs.ErrInvalidArgument)
	}
	p, err := moby.LoadProfile(string(text), bound(bounding))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return p, nil
}

// runtimeDefault is the built-in profile: Docker's, which is containerd's but
// for the calls with which a process asks for its own LSM attributes. containerd
// allows those to everybody.
func runtimeDefault(bounding []string) (*specs.LinuxSeccomp, error) {
	p, err := moby.GetDefaultProfile(bound(bounding))
	if err != nil {
		return nil, fmt.Errorf("built-in seccomp profile: %w", err)
	}
	if !slices.Contains(bounding, "CAP_SYS_ADMIN") {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{
			Names:  []string{"lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr"},
			Action: specs.ActAllow,
		})
	}
	return p, nil
}

func bound(caps []string) *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}
}
