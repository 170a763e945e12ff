package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// UpdateContainerResources. CRI: synchronous, and all or nothing. A value of 0
// is one that is not spoken of: the CPU manager of the kubelet sends nothing
// but a cpuset.
func (s *Server) UpdateContainerResources(ctx context.Context, r *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	err := checkUpdate(r)
	if err == nil {
		err = s.Containers.Update(ctx, r.GetContainerId(), r.GetLinux())
	}
	if err != nil {
		return nil, fmt.Errorf("update resources of container %s: %w", r.GetContainerId(), err)
	}
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}

func checkUpdate(r *runtimeapi.UpdateContainerResourcesRequest) error {
	switch {
	case r.GetWindows() != nil:
		return fmt.Errorf("windows: Windows containers are not supported: %w", errdefs.ErrInvalidArgument)
	case len(r.GetAnnotations()) > 0:
		return fmt.Errorf("annotations: none is known that changes resources: %w", errdefs.ErrInvalidArgument)
	case r.GetLinux() == nil:
		return fmt.Errorf("linux: missing: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}
