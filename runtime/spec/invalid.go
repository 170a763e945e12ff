package spec

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// invalid is the error for a field with a wrong value.
func invalid(field string, value any, reason string) error {
	text := fmt.Sprint(value)
	// Some values are as long as a command line.
	if len(text) > 100 {
		text = text[:100] + "…"
	}
	return fmt.Errorf("%s: %q: %s: %w", field, text, reason, errdefs.ErrInvalidArgument)
}

// notYet is the error for a field that Berth does not know how to honour.
func notYet(field, what string) error {
	return fmt.Errorf("%s: %s not supported: %w", field, what, errdefs.ErrNotImplemented)
}
