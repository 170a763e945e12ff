package spec

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// step makes one part of a spec.
type step struct {
	name  string
	apply func(in *Input, s *specs.Spec) error
}

// steps in their order; where it matters, the reason stands beside.
var steps = []step{
	{"request", request}, // the others rely on a valid configuration
	{"base", base},
	{"process", process},
	{"env", environment},
	{"user", user},
	{"userns", userns},
	{"namespaces", namespaces},
	{"mounts", mounts},
	{"devices", devices},
	{"cdi", cdiDevices}, // over what the request itself mounts and sets
	{"capabilities", capabilities},
	{"seccomp", seccomp}, // after capabilities: the default profile depends on them
	{"apparmor", apparmor},
	{"selinux", selinuxLabels},
	{"rlimits", rlimits},
	{"oom", oomScore},
	{"resources", resources},
	{"hardening", hardening},
	{"annotations", annotations},
	{"ids", mappedIDs}, // when all of them are known
}

// Build makes the OCI spec of a container. It looks at nothing but its input.
func Build(in Input) (*specs.Spec, error) {
	s := &specs.Spec{}
	for _, st := range steps {
		if err := st.apply(&in, s); err != nil {
			return nil, fmt.Errorf("spec step %q: %w", st.name, err)
		}
	}
	return s, nil
}
