package e2e

import (
	"archive/tar"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cri/berth/imageservice/registry/registrytest"
	"github.com/berth-cri/berth/test/images"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// registryAt starts a registry that the node knows as host.
func (n *node) registryAt(host string) *registrytest.Server {
	n.t.Helper()
	s := registrytest.Start(n.t)
	n.write("certs.d/"+host+"/hosts.toml", fmt.Sprintf("server = %q\n", s.URL))
	return s
}

// smallImage is one of a few files that nobody runs.
func smallImage(t *testing.T, content string) v1.Image {
	return registrytest.Image(t, registrytest.Gzip(t, map[string]string{"base": "same in all"}), registrytest.Gzip(t, map[string]string{"content": content}))
}

// image is what ImageStatus says, nil when there is none.
func (n *node) image(name string) *runtimeapi.Image {
	n.t.Helper()
	r, err := n.images.ImageStatus(n.ctx(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
	if err != nil {
		n.t.Fatalf("status of %s: %v", name, err)
	}
	return r.Image
}

func (n *node) imageList() []*runtimeapi.Image {
	n.t.Helper()
	r, err := n.images.ListImages(n.ctx(), &runtimeapi.ListImagesRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	return r.Images
}

func (n *node) removeImage(name string) {
	n.t.Helper()
	if _, err := n.images.RemoveImage(n.ctx(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: name}}); err != nil {
		n.t.Errorf("remove image %s: %v", name, err)
	}
}

func (n *node) tryPull(name string, auth *runtimeapi.AuthConfig) (string, error) {
	r, err := n.images.PullImage(n.ctx(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: name}, Auth: auth})
	return r.GetImageRef(), err
}

// layers are those on the disk.
func (n *node) layers() []string { return entries(n.path("root/layers/sha256")) }

func TestImageNames(t *testing.T) {
	n := newNode(t)
	hub := n.registryAt("docker.io")
	img := smallImage(t, "one")
	digest := hub.Push(t, "library/tool:latest", img)
	hub.Push(t, "library/tool:1", img)
	id := n.pull("tool")
	if !strings.HasPrefix(id, "sha256:") || len(id) != 71 {
		t.Errorf("id %q", id)
	}
	short := strings.TrimPrefix(id, "sha256:")
	byDigest := "docker.io/library/tool@" + digest
	forms := []string{"tool", "tool:latest", "docker.io/tool", "library/tool", "docker.io/library/tool:latest", "index.docker.io/library/tool",
		"tool@" + digest, byDigest, "docker.io/library/tool:latest@" + digest, id, short, short[:12], "sha256:" + short[:12]}
	for _, name := range forms {
		got := n.image(name)
		if got == nil || got.Id != id || !slices.Equal(got.RepoTags, []string{"docker.io/library/tool:latest"}) || !slices.Equal(got.RepoDigests, []string{byDigest}) || got.Size == 0 {
			t.Errorf("%s: %v", name, got)
		}
		r, err := n.images.ListImages(n.ctx(), &runtimeapi.ListImagesRequest{Filter: &runtimeapi.ImageFilter{Image: &runtimeapi.ImageSpec{Image: name}}})
		if err != nil || len(r.Images) != 1 {
			t.Errorf("list of %s: %v, %v", name, r, err)
		}
	}
	for _, name := range []string{"tool:1", "tool:2", "other", "registry.test/tool", "tool@sha256:" + strings.Repeat("0", 64), strings.Repeat("0", 64), "sha256:" + strings.Repeat("0", 64), "Not A Name", "../x", "tool:"} {
		if got := n.image(name); got != nil {
			t.Errorf("%s: %v", name, got)
		}
		n.removeImage(name)
	}
	if len(n.imageList()) != 1 {
		t.Errorf("images: %v", n.imageList())
	}
	// Each form removes the image with all its names.
	for _, name := range forms {
		for _, ref := range []string{"tool", "tool:1", byDigest} {
			if got := n.pull(ref); got != id {
				t.Errorf("pull of %s: %s", ref, got)
			}
		}
		if got := n.imageList(); len(got) != 1 || len(got[0].RepoTags) != 2 || len(got[0].RepoDigests) != 1 {
			t.Errorf("images: %v", got)
		}
		n.removeImage(name)
		if got := n.imageList(); len(got) != 0 || n.image("tool:1") != nil || n.image(id) != nil {
			t.Errorf("after the removal of %s: %v", name, got)
		}
		n.removeImage(name)
	}
	eventually(t, 10*time.Second, "the layers are swept", func() error {
		if left := n.layers(); len(left) != 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

func TestImagesOfSeveralRegistries(t *testing.T) {
	n := newNode(t)
	a, b := n.registryAt("a.test"), n.registryAt("b.test")
	one, two := smallImage(t, "one"), smallImage(t, "two")
	a.Push(t, "app:1", one)
	b.Push(t, "team/app:x", one)
	id := n.pull("a.test/app:1")
	if again := n.pull("b.test/team/app:x"); again != id {
		t.Errorf("one image, two ids: %s and %s", id, again)
	}
	if got := n.imageList(); len(got) != 1 || len(got[0].RepoTags) != 2 || len(got[0].RepoDigests) != 2 {
		t.Errorf("images: %v", got)
	}
	// A tag that moves leaves its old image, and takes nothing else along.
	a.Push(t, "app:1", two)
	moved := n.pull("a.test/app:1")
	if moved == id || n.image("a.test/app:1").GetId() != moved || n.image("b.test/team/app:x").GetId() != id {
		t.Errorf("a moved tag: %s, %v", moved, n.imageList())
	}
	if old := n.image(id); slices.Contains(old.GetRepoTags(), "a.test/app:1") {
		t.Errorf("the old image keeps the tag: %v", old)
	}
	if got := len(n.layers()); got != 3 {
		t.Errorf("%d layers for two images that share one", got)
	}
	n.restart()
	if n.image("a.test/app:1").GetId() != moved || n.image("b.test/team/app:x").GetId() != id || len(n.imageList()) != 2 {
		t.Errorf("after a restart: %v", n.imageList())
	}
	n.removeImage(moved)
	if n.image(id) == nil {
		t.Error("the other image is gone too")
	}
	eventually(t, 10*time.Second, "its own layer is swept", func() error {
		if left := n.layers(); len(left) != 2 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

func TestImageFields(t *testing.T) {
	n := newNode(t, func(n *node) { n.pins = `["registry.test/busybox:1"]` })
	n.registryAt("small.test").Push(t, "numeric:1", smallImage(t, "x")) // user 1002
	n.pull(busybox)
	n.pull(users)
	n.pull("small.test/numeric:1")
	if got := n.image(busybox); got.GetUid() != nil || got.GetUsername() != "" || !got.Pinned {
		t.Errorf("%v", got)
	}
	if got := n.image(users); got.GetUid() != nil || got.GetUsername() != "app" || got.Pinned {
		t.Errorf("%v", got)
	}
	if got := n.image("small.test/numeric:1"); got.GetUid().GetValue() != 1002 || got.GetUsername() != "" {
		t.Errorf("%v", got)
	}
	r, err := n.images.ImageStatus(n.ctx(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: users}, Verbose: true})
	if err != nil || !strings.Contains(r.Info["info"], `"User":"app:staff"`) {
		t.Errorf("verbose: %v, %v", r.GetInfo(), err)
	}
	_, err = n.images.RemoveImage(n.ctx(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: busybox}})
	wantCode(t, "a pinned image", err, codes.FailedPrecondition, "pinned")
}

// A container keeps its layers, whatever becomes of the image.
func TestImageInUse(t *testing.T) {
	n := newNode(t)
	image := n.pull(busybox)
	pod := n.pod(n.podConfig("user", hostNetwork))
	id := n.run(pod, containerConfig("c", "sleep 1000; :"))
	created, err := n.create(pod, containerConfig("later", "ls /bin | wc -l"))
	if err != nil {
		t.Fatal(err)
	}
	n.removeImage(busybox)
	if n.image(busybox) != nil {
		t.Error("the image is still there")
	}
	works := func(when string) {
		t.Helper()
		time.Sleep(50 * time.Millisecond) // for a sweep
		if out, code := n.exec(id, "cat /etc/group | head -1"); out != "root:x:0:\n" || code != 0 {
			t.Errorf("%s: %q, %d", when, out, code)
		}
		if st := n.status(id); st.ImageId != image {
			t.Errorf("%s: image_id %s", when, st.ImageId)
		}
		if len(n.layers()) != 1 {
			t.Errorf("%s: layers %v", when, n.layers())
		}
	}
	works("after the removal")
	n.restart()
	works("after a restart")
	_, err = n.create(pod, containerConfig("new", "true"))
	wantCode(t, "a new container of it", err, codes.NotFound, busybox)
	if _, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: created}); err != nil {
		t.Errorf("start of one that was created before: %v", err)
	}
	n.wait(created)
	if _, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: created}); err != nil {
		t.Fatal(err)
	}
	works("while one of two uses it")
	if _, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the layer is swept", func() error {
		if left := n.layers(); len(left) != 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	if again := n.pull(busybox); again != image {
		t.Errorf("pulled again: %s", again)
	}
	n.output(pod, "again", "true")
}

// Removals and pulls of one image by many at once.
func TestImageIsPulledAndRemovedAtOnce(t *testing.T) {
	n := newNode(t)
	n.registryAt("small.test").Push(t, "x:1", smallImage(t, "x"))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if _, err := n.tryPull("small.test/x:1", nil); err != nil {
					t.Errorf("pull: %v", err)
				}
			}
		})
		wg.Go(func() {
			for range 10 {
				n.removeImage("small.test/x:1")
			}
		})
	}
	wg.Wait()
	id := n.pull("small.test/x:1")
	if got := n.image("small.test/x:1"); got.GetId() != id || len(n.imageList()) != 1 {
		t.Errorf("in the end: %v", n.imageList())
	}
	for _, l := range n.layers() {
		if b, err := os.ReadDir(n.path("root/layers/sha256", l, "fs")); err != nil || len(b) != 1 {
			t.Errorf("layer %s: %v, %v", l, b, err)
		}
	}
}

func TestImageFsInfo(t *testing.T) {
	n := newNode(t)
	usage := func() (images, containers *runtimeapi.FilesystemUsage) {
		t.Helper()
		r, err := n.images.ImageFsInfo(n.ctx(), &runtimeapi.ImageFsInfoRequest{})
		if err != nil || len(r.ImageFilesystems) != 1 || len(r.ContainerFilesystems) != 1 {
			t.Fatalf("%v, %v", r, err)
		}
		for _, u := range []*runtimeapi.FilesystemUsage{r.ImageFilesystems[0], r.ContainerFilesystems[0]} {
			if u.Timestamp < time.Now().Add(-time.Minute).UnixNano() || u.FsId.GetMountpoint() == "" || !exists(u.FsId.Mountpoint) {
				t.Errorf("%v", u)
			}
		}
		return r.ImageFilesystems[0], r.ContainerFilesystems[0]
	}
	before, _ := usage()
	n.pull(busybox)
	after, empty := usage()
	size := n.image(busybox).Size
	if grown := after.UsedBytes.Value - before.UsedBytes.Value; grown < size/2 || grown > 2*size+1<<20 {
		t.Errorf("images grew by %d bytes for an image of %d", grown, size)
	}
	if after.InodesUsed.Value < before.InodesUsed.Value+10 {
		t.Errorf("inodes: %d, before: %d", after.InodesUsed.Value, before.InodesUsed.Value)
	}
	pod := n.pod(n.podConfig("writer", hostNetwork))
	n.run(pod, containerConfig("c", "head -c 3000000 /dev/zero >/big; sleep 1000; :"))
	eventually(t, 30*time.Second, "what a container wrote is counted", func() error {
		if _, now := usage(); now.UsedBytes.Value < empty.UsedBytes.Value+3000000 || now.InodesUsed.Value <= empty.InodesUsed.Value {
			return fmt.Errorf("%v", now)
		}
		return nil
	})
	n.removeImage(busybox)
	if now, _ := usage(); now.UsedBytes.Value < before.UsedBytes.Value+size/2 {
		t.Errorf("layers in use count: %v", now)
	}
}

// What layers do to each other, as a container sees it.
func TestImageLayers(t *testing.T) {
	n := newNode(t)
	s := n.registryAt("layered.test")
	base, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	one, err := layerOf([]*tar.Header{
		{Typeflag: tar.TypeDir, Name: "d/"}, {Typeflag: tar.TypeReg, Name: "d/old"}, {Typeflag: tar.TypeReg, Name: "d/kept"},
		{Typeflag: tar.TypeDir, Name: "o/"}, {Typeflag: tar.TypeReg, Name: "o/old"},
		{Typeflag: tar.TypeReg, Name: "was-file"}, {Typeflag: tar.TypeDir, Name: "was-dir/"}, {Typeflag: tar.TypeReg, Name: "was-dir/x"},
		{Typeflag: tar.TypeReg, Name: "setuid", Mode: 0o4755}, {Typeflag: tar.TypeReg, Name: "owned", Uid: 1000, Gid: 50, Mode: 0o640},
		{Typeflag: tar.TypeReg, Name: "a"}, {Typeflag: tar.TypeLink, Name: "b", Linkname: "a"},
		{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3, Mode: 0o666},
		{Typeflag: tar.TypeReg, Name: "attributed", PAXRecords: map[string]string{"SCHILY.xattr.user.e2e": "kept"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	two, err := layerOf([]*tar.Header{
		{Typeflag: tar.TypeReg, Name: "d/.wh.old"}, {Typeflag: tar.TypeReg, Name: "d/new"},
		{Typeflag: tar.TypeDir, Name: "o/"}, {Typeflag: tar.TypeReg, Name: "o/.wh..wh..opq"}, {Typeflag: tar.TypeReg, Name: "o/new"},
		{Typeflag: tar.TypeDir, Name: "was-file/"}, {Typeflag: tar.TypeReg, Name: "was-dir"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Push(t, "app:1", registrytest.Image(t, base, one, two))
	s.Push(t, "index:1", registrytest.Index(t, map[string]v1.Image{
		"linux/amd64": registrytest.OCI(registrytest.Image(t, base, registrytest.Zstd(t, map[string]string{"z": "zstd\n"}), registrytest.Plain(t, map[string]string{"p": "plain\n"}))),
		"linux/arm64": registrytest.ImageFor(t, "arm64", one),
	}))
	n.pull("layered.test/app:1")
	n.pull("layered.test/index:1")
	pod := n.pod(n.podConfig("layers", hostNetwork))
	of := func(ref string) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) { c.Image.Image, c.Linux.SecurityContext.RunAsUser = ref, id64(0) }
	}
	n.inPod(pod, map[string]printed{
		"whiteouts":        {of("layered.test/app:1"), "ls d o | tr '\\n' ' '", "d: kept new  o: new "},
		"replaced":         {of("layered.test/app:1"), "test -d was-file && test -f was-dir && echo yes", "yes\n"},
		"modes and owners": {of("layered.test/app:1"), "stat -c '%n %a %u %g %F' setuid owned null", "setuid 4755 0 0 regular empty file\nowned 640 1000 50 regular empty file\nnull 666 0 0 character special file\n"},
		"hard links":       {of("layered.test/app:1"), "stat -c %h a; test a -ef b && echo same", "2\nsame\n"},
		"a device works":   {of("layered.test/app:1"), "echo x >/null && echo yes", "yes\n"},
		"other formats":    {of("layered.test/index:1"), "cat z p", "zstd\nplain\n"},
		"copied up":        {of("layered.test/app:1"), "chmod 600 /bin/busybox && mv /d /moved && ls /moved | tr '\\n' ' '", "kept new "},
	})
}
