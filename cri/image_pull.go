package cri

import (
	"context"
	"fmt"

	"github.com/berth-cri/berth/imageservice"
	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PullImage. CRI: the answer is the id of the image, the same that every other
// RPC gives. The client sets no deadline; the pull bounds itself by progress.
func (s *Server) PullImage(ctx context.Context, r *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	name := r.GetImage().GetImage()
	if name == "" {
		return nil, fmt.Errorf("pull image: image.image is empty: %w", errdefs.ErrInvalidArgument)
	}
	if err := s.checkHandler("image.runtime_handler", r.GetImage()); err != nil {
		return nil, fmt.Errorf("pull image %q: %w", name, err)
	}
	request := imageservice.PullRequest{Image: name}
	if a := r.GetAuth(); a != nil {
		request.Auth = &imageservice.Auth{
			Username:      a.Username,
			Password:      a.Password,
			Auth:          a.Auth,
			ServerAddress: a.ServerAddress,
			IdentityToken: a.IdentityToken,
			RegistryToken: a.RegistryToken,
		}
	}
	id, err := s.Images.Pull(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("pull image %q: %w", name, err)
	}
	return &runtimeapi.PullImageResponse{ImageRef: id}, nil
}
