package cri

import (
	"fmt"

	"github.com/berth-cri/berth/cri/events"
	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/pod"
	"google.golang.org/grpc/metadata"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// GetContainerEvents tells of everything that happens from now on. The header
// is sent when no event can be missed any more, so that a client which waits
// for it and then lists knows everything. A client that lets more than
// events.Waiting events wait gets ResourceExhausted and has to do that again.
func (s *Server) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream runtimeapi.RuntimeService_GetContainerEventsServer) error {
	l, err := s.Events.Listen()
	if err != nil {
		return err
	}
	defer l.Close()
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return fmt.Errorf("send header of events: %w", err)
	}
	for {
		e, err := l.Next(stream.Context())
		if err != nil {
			return err
		}
		if err := stream.Send(e); err != nil {
			return fmt.Errorf("send event: %w", err)
		}
	}
}

// ContainerChanged publishes what has happened to a container.
func (s *Server) ContainerChanged(c *container.Container, what runtimeapi.ContainerEventType) {
	s.Events.Publish(func(int64) *events.Event {
		rec := c.Record()
		e := &events.Event{ContainerId: rec.ID, ContainerEventType: what, ContainersStatuses: s.containerStatuses(rec.Pod)}
		if p, err := s.Pods.Get(rec.Pod); err == nil {
			e.PodSandboxStatus = sandboxStatus(p.Record())
		}
		return e
	})
}

// PodChanged publishes what has happened to a sandbox, whose events have its id
// for the container's. The last one tells what it was: by it the kubelet knows
// which pod to forget.
func (s *Server) PodChanged(p *pod.Pod, what runtimeapi.ContainerEventType) {
	s.Events.Publish(func(int64) *events.Event {
		rec := p.Record()
		return &events.Event{
			ContainerId: rec.ID, ContainerEventType: what,
			PodSandboxStatus: sandboxStatus(rec), ContainersStatuses: s.containerStatuses(rec.ID),
		}
	})
}
