package container

import runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

// told are the events of a change of state, after its status was written. The
// process of a start may have ended before the start was noted; then both are
// told at once. A start that failed has ended without a beginning.
func told(from State, now *Status) []runtimeapi.ContainerEventType {
	const (
		created = runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT
		started = runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT
		stopped = runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT
	)
	switch {
	case from == Creating && now.State == Created:
		return []runtimeapi.ContainerEventType{created}
	case now.State == Running:
		return []runtimeapi.ContainerEventType{started}
	case now.State == Exited && from == Starting && now.StartedAt != 0:
		return []runtimeapi.ContainerEventType{started, stopped}
	case now.State == Exited:
		return []runtimeapi.ContainerEventType{stopped}
	}
	return nil // DELETED is told when nothing of it is left
}

// tellOf makes the container tell of its changes.
func (s *Service) tellOf(c *Container) {
	c.changed = func(what runtimeapi.ContainerEventType) {
		if s.Changed != nil {
			s.Changed(c, what)
		}
	}
}
