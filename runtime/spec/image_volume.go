package spec

import (
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// IsImageVolume says whether a mount of the request is an image, not a path of
// the host.
func IsImageVolume(m *runtimeapi.Mount) bool { return m.GetImage().GetImage() != "" }

// validateImageVolume keeps an image volume to what KEP-4639 has: read-only, with
// nothing of the host in it.
func validateImageVolume(field string, m *runtimeapi.Mount) error {
	sub := m.GetImageSubPath()
	switch {
	case m.GetHostPath() != "":
		return invalid(field+".host_path", m.GetHostPath(), "excludes an image")
	case !m.GetReadonly():
		return invalid(field+".readonly", false, "must be true for an image")
	case m.GetPropagation() == runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		return invalid(field+".propagation", m.GetPropagation(), "an image volume is not a mount of the host")
	case path.IsAbs(sub), strings.Contains("/"+sub+"/", "/../"):
		return invalid(field+".image_sub_path", sub, "must be relative and without ..")
	}
	return noNUL(field+".image_sub_path", sub)
}

// imageVolume mounts the layers of an image over each other. What is in an image
// has no more power in a volume than its content: no devices, no set-uid. That
// programs can be executed is expected of it (critest).
func imageVolume(m *runtimeapi.Mount, layers []string) specs.Mount {
	out := specs.Mount{
		Destination: path.Clean(m.GetContainerPath()),
		Options:     []string{"ro", "nosuid", "nodev"},
	}
	switch len(layers) {
	case 0: // an empty directory
		out.Type, out.Source = "tmpfs", "tmpfs"
		out.Options = append(out.Options, "nr_inodes=1", "mode=0755")
		return out
	case 1: // an overlay wants two
		out.Type, out.Source = "bind", layers[0]
		out.Options = append([]string{"bind", "private"}, out.Options...)
	default:
		escape := strings.NewReplacer(`\`, `\\`, ":", `\:`)
		escaped := make([]string, len(layers))
		for i, l := range layers {
			escaped[i] = escape.Replace(l)
		}
		out.Type, out.Source = "overlay", "overlay"
		out.Options = append(out.Options, "lowerdir="+strings.Join(escaped, ":"))
	}
	if sub := path.Clean("/" + m.GetImageSubPath()); sub != "/" {
		// The option of util-linux; a runtime that does not know it fails.
		out.Options = append(out.Options, "X-mount.subdir="+sub[1:])
	}
	return out
}
