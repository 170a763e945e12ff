package pod

import (
	"errors"
	"testing"

	"github.com/containerd/errdefs"
)

// Every pair of state and event, so that a change of the table shows here.
func TestTransitions(t *testing.T) {
	want := map[State]map[Event]State{
		Creating: {Started: Ready, Stop: Stopping},
		Ready:    {Stop: Stopping},
		Stopping: {Stop: Stopping, Stopped: NotReady},
		NotReady: {Stop: Stopping, Remove: Removing},
		Removing: {Remove: Removing, Removed: Gone},
		Gone:     {},
	}
	for from, events := range want {
		for _, e := range []Event{Started, Stop, Stopped, Remove, Removed} {
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
