package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RemovePodSandbox. CRI: containers that still run are forcibly ended and
// removed; no error when there is no such sandbox.
func (s *Server) RemovePodSandbox(ctx context.Context, r *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	err := s.Pods.Remove(ctx, r.GetPodSandboxId(), s.Containers.StopPod, s.Containers.RemovePod)
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("remove pod sandbox %s: %w", r.GetPodSandboxId(), err)
	}
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}
