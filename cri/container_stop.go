package cri

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// longestGrace bounds what fits a time.Duration with room for arithmetic.
const longestGrace = 10 * 365 * 24 * time.Hour

// StopContainer. CRI: no error when the container is stopped already or is not
// there; after timeout seconds it is killed, with 0 at once.
func (s *Server) StopContainer(ctx context.Context, r *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	if r.GetTimeout() < 0 {
		return nil, fmt.Errorf("stop container %s: timeout %d is negative: %w", r.GetContainerId(), r.GetTimeout(), errdefs.ErrInvalidArgument)
	}
	grace := longestGrace
	if r.GetTimeout() < int64(longestGrace/time.Second) {
		grace = time.Duration(r.GetTimeout()) * time.Second
	}
	err := s.Containers.Stop(ctx, r.GetContainerId(), grace)
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("stop container %s: %w", r.GetContainerId(), err)
	}
	return &runtimeapi.StopContainerResponse{}, nil
}
