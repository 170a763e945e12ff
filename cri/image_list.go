package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListImages. CRI: one entry per image, with all its names.
func (s *Server) ListImages(_ context.Context, r *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	reply := &runtimeapi.ListImagesResponse{}
	if name := r.GetFilter().GetImage().GetImage(); name != "" {
		img, err := s.Images.Lookup(name)
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("list images %q: %w", name, err)
		}
		if err == nil {
			reply.Images = append(reply.Images, image(img))
		}
		return reply, nil
	}
	for _, img := range s.Images.List() {
		reply.Images = append(reply.Images, image(img))
	}
	return reply, nil
}
