package embedded

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// WithCommand returns the plan of an exec with other arguments. An exec probe
// runs the same plan every few seconds but for them, and compiling one means
// reading the container's whole spec.
func WithCommand(exec []byte, args []string) ([]byte, error) {
	if len(args) == 0 {
		return nil, invalid("process.args", "is empty")
	}
	steps, err := plan.Decode(exec)
	if err != nil {
		return nil, fmt.Errorf("read the plan of an exec: %w: %w", err, errdefs.ErrDataLoss)
	}
	for _, s := range steps {
		if p, ok := s.(*plan.Program); ok {
			p.Args = args
		}
	}
	b, err := plan.Encode(steps)
	if err != nil {
		return nil, fmt.Errorf("compile the command: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return b, nil
}
