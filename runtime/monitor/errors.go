package monitor

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"

	"github.com/berth-cri/berth/runtime/oci"
)

// wireError carries an error's kind and text over the socket, and the step that
// failed of starting a process.
type wireError struct {
	Kind string         `json:"kind,omitempty"`
	Text string         `json:"text"`
	Step *oci.StepError `json:"step,omitempty"`
}

// kinds are the errors that keep their meaning across the socket.
var kinds = []struct {
	name string
	err  error
}{
	{"not-found", errdefs.ErrNotFound},
	{"already-exists", errdefs.ErrAlreadyExists},
	{"invalid-argument", errdefs.ErrInvalidArgument},
	{"failed-precondition", errdefs.ErrFailedPrecondition},
	{"permission-denied", errdefs.ErrPermissionDenied},
	{"resource-exhausted", errdefs.ErrResourceExhausted},
	{"not-implemented", errdefs.ErrNotImplemented},
	{"unavailable", errdefs.ErrUnavailable},
	{"deadline", context.DeadlineExceeded},
	{"cancelled", context.Canceled},
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error()}
	errors.As(err, &w.Step)
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			w.Kind = k.name
			break
		}
	}
	return w
}

// remoteError is an error of the monitor as its client sees it.
type remoteError struct {
	text   string
	causes []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.causes }

func (w *wireError) err() error {
	e := &remoteError{text: w.Text}
	for _, k := range kinds {
		if k.name == w.Kind {
			e.causes = append(e.causes, k.err)
		}
	}
	if w.Step != nil {
		e.causes = append(e.causes, w.Step)
	}
	return e
}
