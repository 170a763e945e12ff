package spec

import "github.com/opencontainers/runtime-spec/specs-go"

// oomScore is always set: a container without a wish must not inherit the
// protection that the monitor enjoys. Without CAP_SYS_RESOURCE nobody gets a
// lower value than Berth's own.
func oomScore(in *Input, s *specs.Spec) error {
	adj := int(in.Config.GetLinux().GetResources().GetOomScoreAdj())
	if !in.Node.Host.has("CAP_SYS_RESOURCE") {
		adj = max(adj, in.Node.Host.OOMScoreAdj)
	}
	s.Process.OOMScoreAdj = &adj
	return nil
}
