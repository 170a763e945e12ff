package container

import (
	"fmt"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// State is where a container is in its life, as its status file says.
type State string

// The states. Those with an operation under way are persisted like the others,
// so that a daemon that starts after a crash knows of it.
const (
	Creating State = "creating" // CreateContainer is under way; not listed
	Created  State = "created"
	Starting State = "starting"
	Running  State = "running"
	Stopping State = "stopping" // a stop was asked for; the process may still run
	Exited   State = "exited"
	Removing State = "removing"
	Gone     State = "gone"
)

// Event is what happens to a container.
type Event string

// The events.
const (
	Made    Event = "made"    // CreateContainer has finished
	Start   Event = "start"   // StartContainer was asked for
	Started Event = "started" // the program runs
	Stop    Event = "stop"
	Exit    Event = "exit" // the process ended, or was never started
	Remove  Event = "remove"
	Removed Event = "removed"
)

// next is the whole life. A process may exit before its start is recorded.
var next = map[State]map[Event]State{
	Creating: {Made: Created, Remove: Removing},
	Created:  {Start: Starting, Remove: Removing},
	Starting: {Started: Running, Exit: Exited},
	Running:  {Stop: Stopping, Exit: Exited},
	Stopping: {Stop: Stopping, Exit: Exited},
	Exited:   {Remove: Removing},
	Removing: {Remove: Removing, Removed: Gone},
}

// Next returns the state after the event, or a *TransitionError.
func (s State) Next(e Event) (State, error) {
	if to, ok := next[s][e]; ok {
		return to, nil
	}
	return s, &TransitionError{From: s, Event: e}
}

// cri is the state as the kubelet sees it.
var cri = map[State]runtimeapi.ContainerState{
	Created:  runtimeapi.ContainerState_CONTAINER_CREATED,
	Starting: runtimeapi.ContainerState_CONTAINER_CREATED,
	Running:  runtimeapi.ContainerState_CONTAINER_RUNNING,
	Stopping: runtimeapi.ContainerState_CONTAINER_RUNNING,
	Exited:   runtimeapi.ContainerState_CONTAINER_EXITED,
	Removing: runtimeapi.ContainerState_CONTAINER_EXITED,
}

// CRI is the state as the kubelet sees it.
func (s State) CRI() runtimeapi.ContainerState { return cri[s] }

// TransitionError is an event that the state does not allow.
type TransitionError struct {
	From  State
	Event Event
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("container is %s: cannot %s", e.From, e.Event)
}

// Unwrap gives the kind.
func (e *TransitionError) Unwrap() error { return errdefs.ErrFailedPrecondition }
