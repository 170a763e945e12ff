package cri

import (
	"context"
	"fmt"

	"github.com/berth-cri/berth/runtime/spec"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CreateContainer. CRI: the sandbox must be ready. The sandbox's configuration
// comes with the request once more; the one that RunPodSandbox got is used.
func (s *Server) CreateContainer(ctx context.Context, r *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	if err := spec.ValidateContainerConfig(r.GetConfig()); err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	if err := s.checkHandler("image.runtime_handler", r.GetConfig().GetImage()); err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	for i, m := range r.GetConfig().GetMounts() {
		if err := s.checkHandler(fmt.Sprintf("mounts[%d].image.runtime_handler", i), m.GetImage()); err != nil {
			return nil, fmt.Errorf("create container: %w", err)
		}
	}
	id, err := s.Containers.Create(ctx, r.GetPodSandboxId(), r.Config)
	if err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}
