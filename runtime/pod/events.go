package pod

import runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

// tell tells of a change of state that was written down; mu is held. A sandbox
// is first heard of when it is ready, and once more when nothing of it runs. One
// whose creation could neither be finished nor undone is listed, so it is told.
func (p *Pod) tell(from, to State) {
	if from == Creating && to != Creating {
		p.changed(runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
		if to == Ready {
			p.changed(runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
		}
	}
	if to == NotReady {
		p.tellStopped()
	}
}

// tellEnd tells of the end of a pod that nobody has stopped.
func (p *Pod) tellEnd() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tellStopped()
}

// tellStopped needs mu.
func (p *Pod) tellStopped() {
	if !p.ended {
		p.ended = true
		p.changed(runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	}
}

// tellOf makes the pod tell of its changes.
func (s *Service) tellOf(p *Pod) {
	p.changed = func(what runtimeapi.ContainerEventType) {
		if s.Changed != nil {
			s.Changed(p, what)
		}
	}
}
