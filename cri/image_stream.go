package cri

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// StreamImages is ListImages in chunks.
func (s *Server) StreamImages(r *runtimeapi.StreamImagesRequest, to runtimeapi.ImageService_StreamImagesServer) error {
	list, err := s.ListImages(to.Context(), &runtimeapi.ListImagesRequest{Filter: r.GetFilter()})
	if err != nil {
		return err
	}
	return stream(list.GetImages(), wireSize, func(chunk []*runtimeapi.Image) error {
		return to.Send(&runtimeapi.StreamImagesResponse{Images: chunk})
	})
}
