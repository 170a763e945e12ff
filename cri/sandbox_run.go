package cri

import (
	"context"
	"fmt"

	"github.com/berth-cri/berth/runtime/spec"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RunPodSandbox. CRI: the sandbox is ready on return; an unknown runtime
// handler is refused.
func (s *Server) RunPodSandbox(ctx context.Context, r *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	if err := spec.ValidatePodConfig(r.GetConfig()); err != nil {
		return nil, fmt.Errorf("run pod sandbox: %w", err)
	}
	id, err := s.Pods.Run(ctx, r.Config, r.RuntimeHandler)
	if err != nil {
		return nil, fmt.Errorf("run pod sandbox: %w", err)
	}
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}
