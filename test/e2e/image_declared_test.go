package e2e

import (
	"testing"

	"github.com/berth-cri/berth/test/images"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// An image that declares volumes finds them, whether it brought them or not.
func TestDeclaredVolumes(t *testing.T) {
	layer, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	links, err := layerOf(linkedFiles())
	if err != nil {
		t.Fatal(err)
	}
	const image = "registry.test/volumes:1"
	config := v1.Config{Volumes: map[string]struct{}{"/srv/data/deep": {}, "/out/declared": {}, "/tmp": {}, "/mounted": {}, "/etc/passwd": {}}}
	if err := served.Push(image, config, layer, links); err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	n.pull(image)
	pod := n.pod(n.podConfig("declared", hostNetwork))
	of := func(c *runtimeapi.ContainerConfig) {
		c.Image.Image = image
		c.Mounts = []*runtimeapi.Mount{{HostPath: n.path("own"), ContainerPath: "/mounted"}}
	}
	const script = `cd /srv/data/deep && touch x && stat -c '%a %u' . /srv /tmp; ls -d /out/declared; ls -A /mounted | wc -l; grep -c app /etc/passwd`
	if out, st := n.output(pod, "c", script, of); st.ExitCode != 0 || out != "755 0\n755 0\n1777 0\n/out/declared\n0\n1\n" {
		t.Errorf("%d %q", st.ExitCode, out)
	}
	if left := entries(linkedTarget); len(left) != 0 {
		t.Errorf("an image reached the host: %s has %v", linkedTarget, left)
	}
}
