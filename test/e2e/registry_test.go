package e2e

import (
	"archive/tar"
	"fmt"

	"github.com/berth-cri/berth/test/images"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// served is where the images of this test process are served.
var served *images.Registry

// The images. Names are of a registry that does not exist: hosts.toml leads them here.
const (
	busybox  = "registry.test/busybox:1"
	users    = "registry.test/users:1"    // runs as "app:staff"
	stopsInt = "registry.test/stopsint:1" // stop signal SIGINT
	linked   = "registry.test/linked:1"   // has links that lead out of it
)

func serveImages() error {
	served = images.Serve()
	layer, err := images.Busybox()
	if err != nil {
		return err
	}
	links, err := layerOf(linkedFiles())
	if err != nil {
		return err
	}
	base := v1.Config{
		Cmd: []string{"sh"},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
	user, interrupt := base, base
	user.User = "app:staff"
	interrupt.StopSignal = "SIGINT"
	for ref, cfg := range map[string]v1.Config{busybox: base, users: user, stopsInt: interrupt} {
		if err := served.Push(ref, cfg, layer); err != nil {
			return fmt.Errorf("push %s: %w", ref, err)
		}
	}
	return served.Push(linked, base, layer, links)
}

// layerOf is a layer of empty files, links and directories.
func layerOf(headers []*tar.Header) (v1.Layer, error) {
	var files []images.File
	for _, h := range headers {
		files = append(files, images.File{Header: *h})
	}
	return images.Layer(files...)
}
