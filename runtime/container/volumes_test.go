package container

import (
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestVolumes(t *testing.T) {
	image := ocispec.ImageConfig{Volumes: map[string]struct{}{"/data/": {}, "/data/sub": {}, "/datastore": {}, "/var/lib/x": {}, "rel/../ative": {}, "/": {}}}
	at := func(paths ...string) (all []*runtimeapi.Mount) {
		for _, p := range paths {
			all = append(all, &runtimeapi.Mount{ContainerPath: p})
		}
		return all
	}
	for name, c := range map[string]struct {
		mounts []*runtimeapi.Mount
		want   []string
	}{
		"all":                    {nil, []string{"/ative", "/data", "/data/sub", "/datastore", "/var/lib/x"}},
		"one is mounted":         {at("/data"), []string{"/ative", "/datastore", "/var/lib/x"}},
		"one below is mounted":   {at("/data/sub/"), []string{"/ative", "/data", "/datastore", "/var/lib/x"}},
		"one is mounted above":   {at("/var"), []string{"/ative", "/data", "/data/sub", "/datastore"}},
		"something else mounted": {at("/dat", "/var/lib/xyz"), []string{"/ative", "/data", "/data/sub", "/datastore", "/var/lib/x"}},
	} {
		if got := volumes(image, c.mounts); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
