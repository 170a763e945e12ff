package cri

import (
	"context"
	"fmt"

	"github.com/berth-cri/berth/runtime/spec"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// UpdatePodSandboxResources. CRI: the kubelet has changed the pod's cgroup
// already and tells what the pod as a whole may use now.
func (s *Server) UpdatePodSandboxResources(ctx context.Context, r *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	err := spec.ValidateResources("overhead", r.GetOverhead())
	if err == nil {
		err = spec.ValidateResources("resources", r.GetResources())
	}
	if err == nil {
		err = s.Pods.Update(ctx, r.GetPodSandboxId(), r.GetOverhead(), r.GetResources())
	}
	if err != nil {
		return nil, fmt.Errorf("update resources of pod sandbox %s: %w", r.GetPodSandboxId(), err)
	}
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}
