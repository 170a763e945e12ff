package spec

import "github.com/opencontainers/runtime-spec/specs-go"

// rlimits gives the node's defaults. Where Berth itself could not raise a limit
// so far, it gives what it has: a container that starts with a little less is
// better than none.
func rlimits(in *Input, s *specs.Spec) error {
	for _, r := range in.Node.Rlimits {
		if limit, ok := in.Node.Host.RlimitMax[r.Type]; ok && !in.Node.Host.has("CAP_SYS_RESOURCE") {
			r.Hard = min(r.Hard, limit)
			r.Soft = min(r.Soft, r.Hard)
		}
		s.Process.Rlimits = append(s.Process.Rlimits, r)
	}
	return nil
}
