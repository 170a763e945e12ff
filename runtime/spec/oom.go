package spec

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// oomScore is always set: a container without a wish must not inherit the
// protection that the monitor enjoys. Without CAP_SYS_RESOURCE nobody gets a
// lower value than Berth's own.
func oomScore(in *Input, s *specs.Spec) error {
	adj := OOMScoreAdj(in.Config.GetLinux().GetResources(), in.Node.Host)
	s.Process.OOMScoreAdj = &adj
	return nil
}

// OOMScoreAdj is the value that processes of a container get.
func OOMScoreAdj(r *runtimeapi.LinuxContainerResources, h Host) int {
	adj := int(r.GetOomScoreAdj())
	if !h.has("CAP_SYS_RESOURCE") {
		adj = max(adj, h.OOMScoreAdj)
	}
	return adj
}
