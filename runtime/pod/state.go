package pod

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// State is where a pod sandbox is in its life. It is what the record says; the
// CRI knows only ready (Ready) and not ready (all others).
type State string

// Creating and Removing are in the record too, so that a daemon that starts
// after a crash knows what was under way.
const (
	Creating State = "creating" // RunPodSandbox is under way; not listed
	Ready    State = "ready"
	Stopping State = "stopping" // StopPodSandbox is under way, or failed and is to be repeated
	NotReady State = "notready" // nothing of it runs; the record and the name are left
	Removing State = "removing"
	Gone     State = "gone"
)

// Event is what happens to a pod sandbox.
type Event string

// The events.
const (
	Started Event = "started"
	Stop    Event = "stop"
	Stopped Event = "stopped"
	Remove  Event = "remove"
	Removed Event = "removed"
)

// next is the whole life. A stop may be repeated in every state that is left
// after a failed one.
var next = map[State]map[Event]State{
	Creating: {Started: Ready, Stop: Stopping},
	Ready:    {Stop: Stopping},
	Stopping: {Stop: Stopping, Stopped: NotReady},
	NotReady: {Stop: Stopping, Remove: Removing},
	Removing: {Remove: Removing, Removed: Gone},
}

// Next returns the state after the event, or a *TransitionError.
func (s State) Next(e Event) (State, error) {
	if to, ok := next[s][e]; ok {
		return to, nil
	}
	return s, &TransitionError{From: s, Event: e}
}

// TransitionError is an event that the state does not allow.
type TransitionError struct {
	From  State
	Event Event
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("pod sandbox is %s: cannot %s", e.From, e.Event)
}

// Unwrap gives the kind.
func (e *TransitionError) Unwrap() error { return errdefs.ErrFailedPrecondition }
