package cri

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/berth-cri/berth/imageservice/store"
	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ImageStatus. CRI: an image that is not there is no error, its image is nil.
func (s *Server) ImageStatus(_ context.Context, r *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	img, err := s.Images.Lookup(r.GetImage().GetImage())
	if errdefs.IsNotFound(err) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("status of image %q: %w", r.GetImage().GetImage(), err)
	}
	reply := &runtimeapi.ImageStatusResponse{Image: image(img)}
	if r.GetVerbose() {
		if reply.Info, err = info(map[string]any{"imageSpec": img.Config, "layers": img.Layers}); err != nil {
			return nil, err
		}
	}
	return reply, nil
}

// image is the CRI's view of an image.
func image(img *store.Image) *runtimeapi.Image {
	reply := &runtimeapi.Image{
		Id:          img.ID,
		RepoTags:    img.RepoTags,
		RepoDigests: img.RepoDigests,
		Size:        img.Size,
		Pinned:      img.Pinned,
		Spec:        &runtimeapi.ImageSpec{Image: img.ID},
	}
	// The user without the group: the kubelet's runAsNonRoot needs to know
	// whether it is a number.
	user, _, _ := strings.Cut(img.Config.Config.User, ":")
	if uid, err := strconv.ParseInt(user, 10, 64); err == nil {
		reply.Uid = &runtimeapi.Int64Value{Value: uid}
	} else {
		reply.Username = user
	}
	return reply
}
