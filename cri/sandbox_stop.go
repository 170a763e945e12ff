package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// StopPodSandbox. CRI: idempotent, no error when there is no such sandbox; the
// kubelet calls it many times.
func (s *Server) StopPodSandbox(ctx context.Context, r *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	err := s.Pods.Stop(ctx, r.GetPodSandboxId(), s.Containers.StopPod)
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("stop pod sandbox %s: %w", r.GetPodSandboxId(), err)
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}
