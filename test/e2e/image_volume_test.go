package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cri/berth/test/images"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	model = "registry.test/model:1" // two layers, the upper one over the lower
	notes = "registry.test/notes:1" // one layer
)

// serveVolumes puts the images for volumes into the registry.
func serveVolumes(t *testing.T) {
	t.Helper()
	for ref, layers := range map[string][]v1.Layer{
		model: {
			fileLayer(t, map[string]string{"weights/a.bin": "old a\n", "weights/b.bin": "b\n", "run": "#!/bin/sh\necho ran\n"}),
			fileLayer(t, map[string]string{"weights/a.bin": "new a\n", "etc/link": "->../weights/b.bin", "out": "->/weights"}),
		},
		notes: {fileLayer(t, map[string]string{"README": "read me\n"})},
	} {
		if err := served.Push(ref, v1.Config{}, layers...); err != nil {
			t.Fatal(err)
		}
	}
}

// fileLayer is a layer of small files; a content that begins with "->" is a link.
func fileLayer(t *testing.T, files map[string]string) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(files[name]))}
		if target, ok := strings.CutPrefix(files[name], "->"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, files[name]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// imageMount mounts an image by what PullImage has returned for it, as the
// kubelet does.
func imageMount(at, id, sub string) func(*runtimeapi.ContainerConfig) {
	return func(c *runtimeapi.ContainerConfig) {
		c.Mounts = append(c.Mounts, &runtimeapi.Mount{
			ContainerPath: at, Readonly: true, Image: &runtimeapi.ImageSpec{Image: id}, ImageSubPath: sub,
		})
	}
}

func TestImageVolumes(t *testing.T) {
	n := newNode(t)
	serveVolumes(t)
	n.pull(busybox)
	modelID, notesID := n.pull(model), n.pull(notes)
	pod := n.pod(n.podConfig("volumes"))

	for name, tc := range map[string]struct {
		change []func(*runtimeapi.ContainerConfig)
		script string
		want   string
	}{
		"whole":         {[]func(*runtimeapi.ContainerConfig){imageMount("/m", modelID, "")}, "cat /m/weights/*; ls /m; touch /m/x || echo no", "new a\nb\netc\nout\nrun\nweights\nno\n"},
		"runs":          {[]func(*runtimeapi.ContainerConfig){imageMount("/m", modelID, "")}, "/m/run", "ran\n"},
		"directory":     {[]func(*runtimeapi.ContainerConfig){imageMount("/m", modelID, "weights")}, "cat /m/a.bin; ls /m", "new a\na.bin\nb.bin\n"},
		"file":          {[]func(*runtimeapi.ContainerConfig){imageMount("/etc/b", modelID, "weights/b.bin")}, "cat /etc/b; echo > /etc/b || echo no", "b\nno\n"},
		"through-links": {[]func(*runtimeapi.ContainerConfig){imageMount("/m", modelID, "etc/link"), imageMount("/w", modelID, "out/a.bin")}, "cat /m /w", "b\nnew a\n"},
		"several":       {[]func(*runtimeapi.ContainerConfig){imageMount("/m", modelID, "weights"), imageMount("/n", notesID, ""), imageMount("/r", notesID, "README")}, "cat /m/b.bin /n/README /r", "b\nread me\nread me\n"},
		"by-name":       {[]func(*runtimeapi.ContainerConfig){imageMount("/n", notes, "")}, "cat /n/README", "read me\n"},
		"its-own-image": {[]func(*runtimeapi.ContainerConfig){imageMount("/again", busybox, "bin")}, "/again/sh -c 'echo again'", "again\n"},
	} {
		n.sub(name, func(n *node) {
			out, st := n.output(pod, name, "exec 2>/dev/null; "+tc.script, tc.change...)
			if out != tc.want {
				n.t.Errorf("got %q, want %q", out, tc.want)
			}
			for _, m := range st.Mounts {
				if ref := m.GetImage().GetImageRef(); ref != n.imageID(m.Image.Image) {
					n.t.Errorf("mount of %s has the digest %q in the status", m.Image.Image, ref)
				}
			}
		})
	}
	n.sub("no mount of the host", func(n *node) {
		id := n.run(pod, containerConfig("sleeps", "sleep 1000", imageMount("/m", modelID, "weights")))
		for _, line := range n.mounts() {
			if strings.Contains(line, " overlay ") || strings.Contains(line, "/layers/") {
				n.t.Errorf("mounted on the host: %s", line)
			}
		}
		if out, code := n.exec(id, "cat /m/a.bin"); out != "new a\n" || code != 0 {
			n.t.Errorf("in an exec: %q, %d", out, code)
		}
	})
	n.sub("failures", func(n *node) {
		for name, tc := range map[string]struct {
			change func(*runtimeapi.ContainerConfig)
			code   codes.Code
			words  []string
		}{
			"a path that the image lacks":  {imageMount("/m", modelID, "weights/c.bin"), codes.Unknown, []string{"ImageVolumeMountFailed: ", "weights/c.bin", "/m"}},
			"a path below a file":          {imageMount("/m", modelID, "run/x"), codes.Unknown, []string{"ImageVolumeMountFailed: ", "run/x"}},
			"an image that is not there":   {imageMount("/m", "registry.test/absent:1", ""), codes.Unknown, []string{"ImageVolumeMountFailed: ", "registry.test/absent:1", "not been pulled"}},
			"a path that leads out":        {imageMount("/m", modelID, "../etc"), codes.InvalidArgument, []string{"image_sub_path"}},
			"an image that can be written": {func(c *runtimeapi.ContainerConfig) { imageMount("/m", modelID, "")(c); c.Mounts[0].Readonly = false }, codes.InvalidArgument, []string{"readonly"}},
			"an image and a host path":     {func(c *runtimeapi.ContainerConfig) { imageMount("/m", modelID, "")(c); c.Mounts[0].HostPath = "/tmp" }, codes.InvalidArgument, []string{"host_path"}},
		} {
			_, err := n.create(pod, containerConfig("fails", "true", tc.change))
			wantCode(n.t, name, err, tc.code, tc.words...)
		}
	})
}

// imageID is the id of an image.
func (n *node) imageID(ref string) string {
	n.t.Helper()
	r, err := n.images.ImageStatus(n.ctx(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
	if err != nil {
		n.t.Fatal(err)
	}
	return r.GetImage().GetId()
}

// An image volume lives as long as its container, whatever becomes of the image
// and of the daemon.
func TestImageVolumeOutlivesItsImage(t *testing.T) {
	n := newNode(t)
	serveVolumes(t)
	n.pull(busybox)
	id := n.pull(model)
	pod := n.pod(n.podConfig("outlives"))
	before := len(entries(n.path("root/layers/sha256")))
	created, err := n.create(pod, containerConfig("later", "cat /m/weights/a.bin; sleep 1000", imageMount("/m", id, "")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.images.RemoveImage(n.ctx(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: id}}); err != nil {
		t.Fatal(err)
	}
	n.restart()
	// A removal and a release both make the store sweep.
	n.pull(notes)
	if _, err := n.images.RemoveImage(n.ctx(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: notes}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the other image is swept", func() error {
		if now := len(entries(n.path("root/layers/sha256"))); now != before {
			return fmt.Errorf("%d layers, %d before", now, before)
		}
		return nil
	})
	if _, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: created}); err != nil {
		t.Fatal(err)
	}
	if out, _ := n.exec(created, "cat /m/weights/a.bin"); out != "new a\n" {
		t.Errorf("got %q", out)
	}
	if ref := n.status(created).Mounts[0].Image.ImageRef; ref != id {
		t.Errorf("the status has the digest %q, want %q", ref, id)
	}
	if _, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: created}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the layers go with the container", func() error {
		if left := entries(n.path("root/layers/sha256")); len(left) != before-2 {
			return fmt.Errorf("%d layers, want %d", len(left), before-2)
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(n.path("root"), "layers")); err != nil {
		t.Error(err)
	}
}

// pushDevices pushes busybox with a node of the host's memory.
func pushDevices(ref string) error {
	base, err := images.Busybox()
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeChar, Name: "image/mem", Mode: 0o666, Devmajor: 1, Devminor: 1})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		return err
	}
	return served.Push(ref, v1.Config{Env: []string{"PATH=/bin"}}, base, layer)
}
