package cri

import (
	"context"
	"fmt"

	"github.com/berth-cri/berth/runtime/spec"
	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Exec grants the streams of a command and answers with their URL. CRI: one of
// stdin, stdout and stderr must be true; with a terminal stderr must be false.
func (s *Server) Exec(_ context.Context, r *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if err := spec.ValidateCommand(r.GetCmd()); err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", r.GetContainerId(), err)
	}
	if err := checkStreams(r); err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", r.GetContainerId(), err)
	}
	c, err := s.Containers.Get(r.GetContainerId())
	if err == nil {
		err = c.CheckRunning("exec")
	}
	if err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", r.GetContainerId(), err)
	}
	r.ContainerId = c.Record().ID // a prefix may be ambiguous by the time the client comes
	url, err := s.Streams.Exec(r)
	return &runtimeapi.ExecResponse{Url: url}, err
}

// checkStreams holds the rules that exec and attach share.
func checkStreams(r interface {
	GetTty() bool
	GetStdin() bool
	GetStdout() bool
	GetStderr() bool
}) error {
	switch {
	case r.GetTty() && r.GetStderr():
		return fmt.Errorf("tty and stderr are both true: a terminal has one output: %w", errdefs.ErrInvalidArgument)
	case !r.GetStdin() && !r.GetStdout() && !r.GetStderr():
		return fmt.Errorf("one of stdin, stdout and stderr must be true: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}
