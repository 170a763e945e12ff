package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RemoveImage. CRI: by any of its names the image goes with all of them; no
// error when it is not there.
func (s *Server) RemoveImage(ctx context.Context, r *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	name := r.GetImage().GetImage()
	if name == "" {
		return nil, fmt.Errorf("remove image: image.image is empty: %w", errdefs.ErrInvalidArgument)
	}
	if err := s.Images.Remove(ctx, name); err != nil && !errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("remove image %q: %w", name, err)
	}
	return &runtimeapi.RemoveImageResponse{}, nil
}
