package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"sort"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// registryURL is where the images of this test process are served.
var registryURL string

// The images. Names are of a registry that does not exist: hosts.toml leads them here.
const (
	busybox  = "registry.test/busybox:1"
	users    = "registry.test/users:1"    // runs as "app:staff"
	stopsInt = "registry.test/stopsint:1" // stop signal SIGINT
	linked   = "registry.test/linked:1"   // has links that lead out of it
)

func serveImages() error {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	registryURL = server.URL
	layer, err := busyboxLayer()
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
		if err := push(ref, cfg, layer); err != nil {
			return fmt.Errorf("push %s: %w", ref, err)
		}
	}
	return push(linked, base, layer, links)
}

// layerOf is a layer of empty files, links and directories.
func layerOf(headers []*tar.Header) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
}

// push puts an image into the registry under the repository and tag of ref.
func push(ref string, cfg v1.Config, layers ...v1.Layer) error {
	_, repo, _ := strings.Cut(ref, "/")
	to, err := name.ParseReference(strings.TrimPrefix(registryURL, "http://")+"/"+repo, name.Insecure)
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
	return remote.Write(to, img)
}

// busyboxLayer is a root file system of Debian's static busybox.
func busyboxLayer() (v1.Layer, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("%w (apt-get install busybox-static)", err)
	}
	bin, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"etc/passwd":     "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
		"etc/group":      "root:x:0:\nstaff:x:50:app\nextra:x:60:app\n",
		"etc/not-a-prog": "just text\n",
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h *tar.Header, body string) {
		h.Size = int64(len(body))
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err == nil {
			err = w.WriteHeader(h)
		}
		if err == nil {
			_, err = io.WriteString(w, body)
		}
	}
	for _, dir := range []string{"bin", "etc", "tmp", "root", "home", "home/app", "var", "dev", "proc", "sys"} {
		add(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: map[bool]int64{true: 0o1777}[dir == "tmp"]}, "")
	}
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox"}, string(bin))
	for _, applet := range strings.Fields(string(out)) {
		if applet != "busybox" {
			add(&tar.Header{Typeflag: tar.TypeLink, Name: "bin/" + applet, Linkname: "bin/busybox"}, "")
		}
	}
	var names []string
	for n := range files {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		add(&tar.Header{Typeflag: tar.TypeReg, Name: n, Mode: 0o644}, files[n])
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
}
