package images

import (
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Registry serves what was pushed to it.
type Registry struct {
	URL string
}

// Serve starts a registry on a port of the loopback device.
func Serve() *Registry {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	return &Registry{URL: server.URL}
}

// Push puts an image into the registry under the repository and tag of ref.
func (r *Registry) Push(ref string, cfg v1.Config, layers ...v1.Layer) error {
	_, repo, _ := strings.Cut(ref, "/")
	to, err := name.ParseReference(strings.TrimPrefix(r.URL, "http://")+"/"+repo, name.Insecure)
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", "amd64", cfg
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	if err := remote.Write(to, img); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	return nil
}
