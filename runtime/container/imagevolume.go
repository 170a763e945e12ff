package container

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/berth-cri/berth/runtime/rootfs"
	"github.com/berth-cri/berth/runtime/spec"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"
)

// imageVolumes finds the images that the request mounts, holds them for as long
// as the container lives, and notes in the record which they are.
func (s *Service) imageVolumes(r *Record, sources []spec.Source) error {
	for i, m := range r.Config.GetMounts() {
		if spec.IsImageVolume(m) {
			m = proto.Clone(m).(*runtimeapi.Mount)
			layers, err := s.imageVolume(r, m)
			if err != nil {
				// Without the kind: the kubelet knows the sentinel.
				return fmt.Errorf("%w: image %q for mounts[%d] at %s: %s", crierrors.ErrImageVolumeMountFailed, m.Image.Image, i, m.ContainerPath, err)
			}
			sources[i].Layers = layers
		}
		r.Mounts = append(r.Mounts, m)
	}
	return nil
}

// imageVolume returns the directories of one. A path in it that does not exist is
// found now, because the kubelet tells the user why a creation failed.
func (s *Service) imageVolume(r *Record, m *runtimeapi.Mount) ([]string, error) {
	img, err := s.Images.HoldImage(r.ID, m.Image.Image)
	if errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("it has not been pulled: %w", err)
	}
	if err != nil {
		return nil, err
	}
	m.Image.ImageRef = img.ID
	r.Volumes = append(r.Volumes, img.Layers...)
	layers := s.Images.LayerDirs(img.Layers)
	if m.ImageSubPath == "" {
		return layers, nil
	}
	v, err := rootfs.OpenView(layers)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	switch err := v.Find(m.ImageSubPath); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the image has no %s (image_sub_path)", m.ImageSubPath)
	case err != nil:
		return nil, fmt.Errorf("image_sub_path: %w", err)
	}
	return layers, nil
}
