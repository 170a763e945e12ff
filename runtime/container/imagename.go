package container

import (
	"slices"
	"strings"

	"github.com/berth-cri/berth/imageservice/reference"
	"github.com/berth-cri/berth/imageservice/store"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// imageName is what people call the image of a container. The kubelet asks for it
// by the id that its pull returned, and shows the name of the status in the pod's,
// where people look for a tag (containerd does the same).
func imageName(asked *runtimeapi.ImageSpec, img *store.Image) string {
	name := asked.GetImage()
	hex := strings.TrimPrefix(img.ID, "sha256:")
	if !strings.HasPrefix(hex, strings.TrimPrefix(name, "sha256:")) {
		return name // as it was asked for, by name
	}
	if ref, err := reference.Parse(asked.GetUserSpecifiedImage()); err == nil && slices.Contains(img.Names(), ref.String()) {
		return ref.String()
	}
	for _, names := range [][]string{img.RepoTags, img.RepoDigests} {
		if len(names) > 0 {
			return names[0]
		}
	}
	return name
}
