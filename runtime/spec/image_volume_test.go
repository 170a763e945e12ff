package spec

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestImageVolumes(t *testing.T) {
	show := func(s *specs.Spec) any {
		var out []string
		for _, m := range s.Mounts {
			if m.Destination == "/v" || strings.HasPrefix(m.Destination, "/v/") {
				out = append(out, m.Destination+" "+m.Type+" "+m.Source+" "+strings.Join(m.Options, ","))
			}
		}
		return s.Linux.RootfsPropagation + strings.Join(out, "; ")
	}
	layers := func(dirs ...string) Source { return Source{Layers: dirs} }
	image := func(from Source, change ...func(*runtimeapi.Mount)) Input {
		m := &runtimeapi.Mount{ContainerPath: "/v", Readonly: true, Image: &runtimeapi.ImageSpec{Image: "sha256:1"}}
		for _, c := range change {
			c(m)
		}
		return on(mount(m, from))
	}
	sub := func(path string) func(*runtimeapi.Mount) {
		return func(m *runtimeapi.Mount) { m.ImageSubPath = path }
	}
	prop := func(p runtimeapi.MountPropagation) func(*runtimeapi.Mount) {
		return func(m *runtimeapi.Mount) { m.Propagation = p }
	}
	below := image(layers("/l/1"))
	mount(&runtimeapi.Mount{ContainerPath: "/v/deep", HostPath: "/h"}, Source{Path: "/h"})(&below)
	const several = "/v overlay overlay ro,nosuid,nodev,lowerdir=/l/2:/l/1"
	tryEach(t, show, map[string]outcome{
		"several layers":               {in: image(layers("/l/2", "/l/1")), want: several},
		"one layer":                    {in: image(layers("/l/1")), want: "/v bind /l/1 bind,private,ro,nosuid,nodev"},
		"no layer":                     {in: image(layers()), want: "/v tmpfs tmpfs ro,nosuid,nodev,nr_inodes=1,mode=0755"},
		"a part of it":                 {in: image(layers("/l/2", "/l/1"), sub("usr//share/./x/")), want: several + ",X-mount.subdir=usr/share/x"},
		"a part of the only layer":     {in: image(layers("/l/1"), sub("x")), want: "/v bind /l/1 bind,private,ro,nosuid,nodev,X-mount.subdir=x"},
		"all of it as a part":          {in: image(layers("/l/2", "/l/1"), sub(".")), want: several},
		"colons and backslashes":       {in: image(layers(`/a:b`, `/c\d`)), want: `/v overlay overlay ro,nosuid,nodev,lowerdir=/a\:b:/c\\d`},
		"a volume below":               {in: below, want: "/v bind /l/1 bind,private,ro,nosuid,nodev; /v/deep bind /h rbind,rprivate"},
		"what the host mounts later":   {in: image(layers("/l/1"), prop(runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER)), want: "/v bind /l/1 bind,private,ro,nosuid,nodev"},
		"with options":                 {in: image(layers("/l/2", "/l/1"), func(m *runtimeapi.Mount) { m.MountOptions = []string{"noexec"} }), want: several + ",noexec"},
		"recursively read-only":        {in: image(layers("/l/1"), func(m *runtimeapi.Mount) { m.RecursiveReadOnly = true }), want: "/v bind /l/1 bind,private,ro,nosuid,nodev"},
		"writable":                     {in: image(layers("/l/1"), func(m *runtimeapi.Mount) { m.Readonly = false }), kind: errdefs.IsInvalidArgument, want: "mounts[0].readonly"},
		"with a path of the host":      {in: image(layers("/l/1"), func(m *runtimeapi.Mount) { m.HostPath = "/h" }), kind: errdefs.IsInvalidArgument, want: "mounts[0].host_path"},
		"seen by the host":             {in: image(layers("/l/1"), prop(runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL)), kind: errdefs.IsInvalidArgument, want: "mounts[0].propagation"},
		"of an unknown propagation":    {in: image(layers("/l/1"), prop(7)), kind: errdefs.IsInvalidArgument, want: "mounts[0].propagation"},
		"a part that leads out":        {in: image(layers("/l/1"), sub("a/../../b")), kind: errdefs.IsInvalidArgument, want: "mounts[0].image_sub_path"},
		"a part from the root":         {in: image(layers("/l/1"), sub("/a")), kind: errdefs.IsInvalidArgument, want: "mounts[0].image_sub_path"},
		"a part that no path can name": {in: image(layers("/l/1"), sub("a\x00")), kind: errdefs.IsInvalidArgument, want: "mounts[0].image_sub_path"},
		"an image without a name":      {in: image(layers(), func(m *runtimeapi.Mount) { m.Image.Image = "" }), kind: errdefs.IsInvalidArgument, want: "mounts[0].host_path"},
	})
}
