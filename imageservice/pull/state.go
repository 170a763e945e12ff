package pull

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// State is where a pull stands.
type State string

const (
	Resolving State = "resolving" // which digest does the name mean?
	Reading   State = "reading"   // index, manifest, config
	Unpacking State = "unpacking" // layers, side by side
	Recording State = "recording" // the image's record
	Done      State = "done"
	Failed    State = "failed"
)

// Event is what moves a pull on.
type Event string

const (
	Resolved Event = "resolved"
	Known    Event = "known" // the image is here under that name and digest
	Read     Event = "read"
	Unpacked Event = "unpacked"
	Recorded Event = "recorded"
	Fail     Event = "fail"
)

var next = map[State]map[Event]State{
	Resolving: {Resolved: Reading, Known: Done, Fail: Failed},
	Reading:   {Read: Unpacking, Fail: Failed},
	Unpacking: {Unpacked: Recording, Fail: Failed},
	Recording: {Recorded: Done, Fail: Failed},
	Done:      {},
	Failed:    {},
}

// Next is the state after an event, or an error of the kind FailedPrecondition.
func (s State) Next(e Event) (State, error) {
	if to, ok := next[s][e]; ok {
		return to, nil
	}
	return s, fmt.Errorf("a pull that is %s cannot take %q: %w", s, e, errdefs.ErrFailedPrecondition)
}
