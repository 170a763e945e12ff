package cri

import (
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// imageSize is an image's size as an entry of a list.
func imageSize(m *runtimeapi.Image) int { return proto.Size(m) + 6 } // with field number and length

// StreamImages is ListImages in chunks.
func (s *Server) StreamImages(r *runtimeapi.StreamImagesRequest, to runtimeapi.ImageService_StreamImagesServer) error {
	list, err := s.ListImages(to.Context(), &runtimeapi.ListImagesRequest{Filter: r.GetFilter()})
	if err != nil {
		return err
	}
	return stream(list.GetImages(), imageSize, func(chunk []*runtimeapi.Image) error {
		return to.Send(&runtimeapi.StreamImagesResponse{Images: chunk})
	})
}
