package embedded

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Compile translates the spec of a container. The root file system is the
// overlay or, when that has no layers, the directory of spec.Root.
func Compile(spec *specs.Spec, root Overlay) (Prepared, error) {
	return Prepared{}, fmt.Errorf("compile a container: %w", errdefs.ErrNotImplemented)
}

// CompileExec translates an exec of process p into the running container that
// was made from spec.
func CompileExec(spec *specs.Spec, p *specs.Process) (Prepared, error) {
	return Prepared{}, fmt.Errorf("compile an exec: %w", errdefs.ErrNotImplemented)
}

// CompileReaper makes the plan of the process 1 of a pod whose containers share
// one PID namespace: it reaps until SIGTERM, and with it everything in the
// namespace ends. join are the pod's pinned namespaces; the PID namespace is new.
func CompileReaper(join []Namespace) (Prepared, error) {
	return Prepared{}, fmt.Errorf("compile a reaper: %w", errdefs.ErrNotImplemented)
}
