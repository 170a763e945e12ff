package spec

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// user names ids. The primary group is also listed as an additional one, so that
// it stays in effect for a program that changes its group (CVE-2022-23471).
func user(in *Input, s *specs.Spec) error {
	groups := []uint32{in.User.GID}
	add := func(g uint32) {
		if !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	for _, g := range in.User.AdditionalGids {
		add(g)
	}
	for _, g := range in.security().GetSupplementalGroups() {
		add(uint32(g))
	}
	s.Process.User = specs.User{UID: in.User.UID, GID: in.User.GID, AdditionalGids: groups, Username: in.User.Username}
	return nil
}
