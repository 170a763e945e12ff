package container

import (
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// volumes are the directories that the image declares for data, without those in
// which the request mounts something of its own.
func volumes(image ocispec.ImageConfig, mounts []*runtimeapi.Mount) []string {
	var all []string
	for v := range image.Volumes {
		v = path.Clean("/" + v)
		if v != "/" && !slices.ContainsFunc(mounts, func(m *runtimeapi.Mount) bool {
			return strings.HasPrefix(v+"/", strings.TrimSuffix(path.Clean(m.GetContainerPath()), "/")+"/")
		}) {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return all
}
