package spec

import "github.com/opencontainers/runtime-spec/specs-go"

// hardening hides exactly the paths that the request lists: the kubelet sends
// its defaults itself, and an empty list is how procMount: Unmasked asks for
// none.
func hardening(in *Input, s *specs.Spec) error {
	if in.privileged() {
		return nil
	}
	s.Linux.MaskedPaths = in.security().GetMaskedPaths()
	s.Linux.ReadonlyPaths = in.security().GetReadonlyPaths()
	return nil
}
