package cri

import (
	"context"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Attach grants the streams of a container's main process and answers with their
// URL. CRI: one of stdin, stdout and stderr must be true; with a terminal stderr
// must be false.
func (s *Server) Attach(_ context.Context, r *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if err := checkStreams(r); err != nil {
		return nil, fmt.Errorf("attach to container %s: %w", r.GetContainerId(), err)
	}
	c, err := s.Containers.Get(r.GetContainerId())
	if err == nil {
		err = c.CheckRunning("attach")
	}
	if err != nil {
		return nil, fmt.Errorf("attach to container %s: %w", r.GetContainerId(), err)
	}
	r.ContainerId = c.Record().ID
	url, err := s.Streams.Attach(r)
	return &runtimeapi.AttachResponse{Url: url}, err
}
