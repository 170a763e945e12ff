package container

import (
	"errors"
	"testing"

	"github.com/containerd/errdefs"
)

// Every pair of state and event, so that a change of the table shows here.
func TestTransitions(t *testing.T) {
	want := map[State]map[Event]State{
		Creating: {Made: Created, Remove: Removing},
		Created:  {Start: Starting, Remove: Removing},
		Starting: {Started: Running, Exit: Exited},
		Running:  {Stop: Stopping, Exit: Exited},
		Stopping: {Stop: Stopping, Exit: Exited},
		Exited:   {Remove: Removing},
		Removing: {Remove: Removing, Removed: Gone},
		Gone:     {},
	}
	for from, events := range want {
		for _, e := range []Event{Made, Start, Started, Stop, Exit, Remove, Removed} {
			got, err := from.Next(e)
			to, legal := events[e]
			switch {
			case legal && (err != nil || got != to):
				t.Errorf("%s, %s: %s, %v; want %s", from, e, got, err, to)
			case !legal && (!errors.Is(err, errdefs.ErrFailedPrecondition) || got != from):
				t.Errorf("%s, %s: %s, %v; want a refusal", from, e, got, err)
			}
		}
	}
}
