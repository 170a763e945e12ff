package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/berth-cri/berth/imageservice/reference"
	"github.com/berth-cri/berth/imageservice/registry"
	"github.com/berth-cri/berth/imageservice/registry/registrytest"
	"github.com/berth-cri/berth/imageservice/store"
	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	crierrors "k8s.io/cri-api/pkg/errors"
)

// rig is a registry, a store and a puller between them. At the end of the test
// it checks that nothing is left over.
type rig struct {
	*Puller
	t     *testing.T
	srv   *registrytest.Server
	store *store.Store
	root  string
}

func newRig(t *testing.T, change func(*Options)) *rig {
	return newRigWith(t, registry.Options{}, change)
}

func newRigWith(t *testing.T, ro registry.Options, change func(*Options)) *rig {
	before := runtime.NumGoroutine()
	t.Cleanup(func() { // runs last
		for range 500 {
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		buf := make([]byte, 1<<20)
		t.Errorf("goroutines: %d, there were %d\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
	})
	r := &rig{t: t, root: t.TempDir(), srv: registrytest.Start(t)}
	quiet := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if r.store, err = store.Open(r.root, store.Options{Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	ro.Pause = time.Millisecond
	client := registry.New(ro)
	o := Options{Store: r.store, Logger: quiet, Settings: Settings{Registry: client}}
	if change != nil {
		change(&o)
	}
	r.Puller = New(o)
	t.Cleanup(func() {
		r.Close()
		client.Close()
		if n := len(r.Pulls()); n > 0 {
			t.Errorf("%d pulls after the end", n)
		}
		r.clean()
		if err := r.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// clean checks that the temporary directory is empty and nothing is held.
func (r *rig) clean() {
	r.t.Helper()
	left, err := os.ReadDir(filepath.Join(r.root, "tmp"))
	if err != nil || len(left) > 0 {
		r.t.Errorf("left in tmp: %v, %v", left, err)
	}
	if _, err := r.store.Sweep(context.Background()); err != nil {
		r.t.Error(err)
	}
	layers, _ := os.ReadDir(filepath.Join(r.root, "layers", "sha256"))
	used := map[string]bool{}
	for _, img := range r.store.Images() {
		for _, l := range img.Layers {
			used[l.Encoded()] = true
		}
	}
	if len(layers) != len(used) {
		r.t.Errorf("%d layers after the sweep, the images have %d", len(layers), len(used))
	}
}

func (r *rig) pull(ctx context.Context, name string) (*store.Image, error) {
	r.t.Helper()
	ref, err := reference.Parse(r.srv.Host + "/" + name)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.Pull(ctx, ref, nil)
}

// file reads a file out of the layers of an image, topmost first.
func (r *rig) file(img *store.Image, name string) string {
	for _, dir := range r.store.LayerDirs(img.Layers) {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			return string(b)
		}
	}
	return "none"
}

// files is content for a layer; n makes it different from others.
func files(n int) map[string]string {
	return map[string]string{fmt.Sprintf("f%d", n): fmt.Sprintf("content %d", n)}
}

func TestPull(t *testing.T) {
	amd := func(img v1.Image) v1.ImageIndex {
		return registrytest.Index(t, map[string]v1.Image{"linux/amd64": img, "linux/arm64": img, "linux/s390x": registrytest.ImageFor(t, "s390x")})
	}
	gzip := registrytest.Image(t, registrytest.Gzip(t, files(0)), registrytest.Gzip(t, files(1)))
	for name, c := range map[string]struct {
		image v1.Image
		index v1.ImageIndex
	}{
		"gzip layers":                {gzip, nil},
		"zstd layers":                {registrytest.OCI(registrytest.Image(t, registrytest.Zstd(t, files(0)), registrytest.Zstd(t, files(1)))), nil},
		"plain layers":               {registrytest.OCI(registrytest.Image(t, registrytest.Plain(t, files(0)), registrytest.Plain(t, files(1)))), nil},
		"layers of all sorts":        {registrytest.OCI(registrytest.Image(t, registrytest.Zstd(t, files(0)), registrytest.Gzip(t, files(1)), registrytest.Plain(t, files(2)))), nil},
		"the media types of the OCI": {registrytest.OCI(gzip), nil},
		"the same layer twice":       {registrytest.Image(t, registrytest.Gzip(t, files(0)), registrytest.Gzip(t, files(1)), registrytest.Gzip(t, files(0))), nil},
		"an index":                   {gzip, amd(gzip)},
		"an index in an index":       {gzip, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: amd(gzip)})},
		"an index without platforms": {gzip, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: registrytest.ImageFor(t, "arm64")}, mutate.IndexAddendum{Add: gzip})},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "an index in an index" || name == "an index without platforms" {
				if runtime.GOARCH != "amd64" {
					t.Skip("the images of this test are for amd64")
				}
			}
			r := newRig(t, nil)
			var pushed string
			if c.index != nil {
				pushed = r.srv.Push(t, "a/b:1", c.index)
			} else {
				pushed = r.srv.Push(t, "a/b:1", c.image)
			}
			img, err := r.pull(t.Context(), "a/b:1")
			if err != nil {
				t.Fatal(err)
			}
			id, _ := c.image.ConfigName()
			if img.ID != id.String() {
				t.Errorf("id %s, want %s", img.ID, id)
			}
			if fmt.Sprint(img.RepoTags, img.RepoDigests) != fmt.Sprintf("[%[1]s/a/b:1] [%[1]s/a/b@%[2]s]", r.srv.Host, pushed) {
				t.Errorf("%v %v", img.RepoTags, img.RepoDigests)
			}
			if r.file(img, "f0") != "content 0" || r.file(img, "f1") != "content 1" {
				t.Errorf("%q %q", r.file(img, "f0"), r.file(img, "f1"))
			}
			for _, name := range []string{img.RepoTags[0], img.RepoDigests[0], img.ID} {
				if found, err := r.store.Lookup(name); err != nil || found.ID != img.ID {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestImageWithoutLayers(t *testing.T) {
	r := newRig(t, nil)
	r.srv.Push(t, "a/b:1", registrytest.Image(t))
	if _, err := r.pull(t.Context(), "a/b:1"); err != nil {
		t.Fatal(err)
	}
}

func TestPullAgain(t *testing.T) {
	r := newRig(t, nil)
	one, two := registrytest.Image(t, registrytest.Gzip(t, files(1))), registrytest.Image(t, registrytest.Gzip(t, files(1)), registrytest.Gzip(t, files(2)))
	digest := r.srv.Push(t, "a/b:1", one)
	must := func(name string) *store.Image {
		t.Helper()
		r.srv.Forget()
		img, err := r.pull(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	first := must("a/b:1")
	for _, name := range []string{"a/b:1", "a/b@" + digest, "a/b:1@" + digest} {
		if img := must(name); img.ID != first.ID {
			t.Errorf("%s: %s", name, img.ID)
		}
		if got := r.srv.Requests(""); len(got) != 1 || !strings.HasPrefix(got[0], "HEAD ") {
			t.Errorf("%s, which is here: %v", name, got)
		}
	}
	r.srv.Push(t, "a/b:other", one)
	if img := must("a/b:other"); img.ID != first.ID || len(img.RepoTags) != 2 || len(img.RepoDigests) != 1 {
		t.Errorf("another tag: %v %v", img.RepoTags, img.RepoDigests)
	}
	r.srv.Push(t, "a/b:1", two)
	moved := must("a/b:1")
	if moved.ID == first.ID || len(r.srv.Requests("/blobs/")) != 2 {
		t.Errorf("the tag has moved: %v", r.srv.Requests(""))
	}
	if old, err := r.store.Lookup(first.ID); err != nil || fmt.Sprint(old.RepoTags) != "["+r.srv.Host+"/a/b:other]" {
		t.Errorf("the image that lost its tag: %v %v", old, err)
	}
}

func TestPullThatFailsLeavesNothing(t *testing.T) {
	good, other := registrytest.Gzip(t, files(1)), registrytest.Gzip(t, files(2))
	lied := other
	lied.Tar = []byte("not what is in the blob")
	encrypted := other
	encrypted.Type = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
	blob := func(l registrytest.Layer) string { d, _ := l.Digest(); return d.String() }
	answer := func(part string, code int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, part) {
				return false
			}
			w.WriteHeader(code)
			io.WriteString(w, body)
			return true
		}
	}
	for name, c := range map[string]struct {
		image     v1.Image
		index     v1.ImageIndex
		intercept func(http.ResponseWriter, *http.Request) bool
		kind      error
		text      []string
	}{
		"no such image":                {kind: errdefs.ErrNotFound, text: []string{"resolving", "404"}},
		"a layer that is missing":      {image: registrytest.Image(t, good, other), intercept: answer(blob(other), 404, ""), kind: errdefs.ErrNotFound, text: []string{"unpacking: layer 2 of 2", "404"}},
		"a layer of another digest":    {image: registrytest.Image(t, good, other), intercept: answer(blob(other), 200, strings.Repeat("x", len(other.Blob))), kind: errdefs.ErrDataLoss, text: []string{"unpacking: layer 2 of 2"}},
		"a layer of another length":    {image: registrytest.Image(t, good, other), intercept: answer(blob(other), 200, "x"), kind: errdefs.ErrDataLoss, text: []string{"layer 2 of 2", "the manifest says"}},
		"a layer of another diff id":   {image: registrytest.Image(t, good, lied), kind: errdefs.ErrDataLoss, text: []string{"layer 2 of 2"}},
		"a layer that is encrypted":    {image: registrytest.OCI(registrytest.Image(t, good, encrypted)), kind: errdefs.ErrNotImplemented, text: []string{"layer 2 of 2", "encrypted"}},
		"a config of another digest":   {image: registrytest.Image(t), intercept: answer("/blobs/", 200, "{}"), kind: errdefs.ErrDataLoss, text: []string{"reading", "config"}},
		"an image of schema 1":         {intercept: answer("/manifests/", 200, `{"schemaVersion":1}`), kind: errdefs.ErrNotImplemented, text: []string{"schema 1"}},
		"an image for other machines":  {index: registrytest.Index(t, map[string]v1.Image{"linux/s390x": registrytest.ImageFor(t, "s390x")}), kind: errdefs.ErrNotFound, text: []string{"there are: linux/s390x"}},
		"a registry that wants a name": {intercept: answer("/", 401, ""), kind: errdefs.ErrUnauthenticated, text: []string{"anonymous"}},
		"a registry that is ill":       {intercept: answer("/", 500, ""), kind: crierrors.ErrRegistryUnavailable, text: []string{"500"}},
		"a registry that is ill later": {image: registrytest.Image(t, good), intercept: answer(blob(good), 503, ""), kind: crierrors.ErrRegistryUnavailable, text: []string{"layer 1 of 1", "503"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRigWith(t, registry.Options{Retries: 1}, nil)
			if c.image != nil {
				r.srv.Push(t, "a/b:1", c.image)
			}
			if c.index != nil {
				r.srv.Push(t, "a/b:1", c.index)
			}
			r.srv.Intercept(c.intercept)
			_, err := r.pull(t.Context(), "a/b:1")
			if !errors.Is(err, c.kind) {
				t.Fatalf("%v, want %v", err, c.kind)
			}
			for _, text := range append(c.text, r.srv.Host+"/a/b:1") {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("no %q in: %v", text, err)
				}
			}
			if unavailable := c.kind == crierrors.ErrRegistryUnavailable; unavailable != strings.HasPrefix(err.Error(), "RegistryUnavailable") {
				t.Errorf("the beginning of the text: %v", err)
			}
			if len(r.store.Images()) > 0 {
				t.Error("an image is listed")
			}
			r.clean()

			r.srv.Intercept(nil)
			if c.image == nil || errdefs.IsNotImplemented(err) || strings.Contains(name, "diff id") {
				return
			}
			if _, err := r.pull(t.Context(), "a/b:1"); err != nil {
				t.Errorf("when the trouble is over: %v", err)
			}
		})
	}
}

func TestLayerThatAMirrorGarbledComesFromTheRegistry(t *testing.T) {
	l := registrytest.Gzip(t, files(1))
	mirror := registrytest.Start(t)
	mirror.Push(t, "a/b:1", registrytest.Image(t, l))
	d, _ := l.Digest()
	mirror.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, d.String()) {
			return false
		}
		io.WriteString(w, strings.Repeat("x", len(l.Blob)))
		return true
	})
	dir := t.TempDir()
	r := newRigWith(t, registry.Options{HostsDir: dir}, nil)
	r.srv.Push(t, "a/b:1", registrytest.Image(t, l))
	host := filepath.Join(dir, r.srv.Host)
	if err := os.MkdirAll(host, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(host, "hosts.toml"), fmt.Appendf(nil, "[host.%q]", mirror.URL), 0o644); err != nil {
		t.Fatal(err)
	}
	img, err := r.pull(t.Context(), "a/b:1")
	if err != nil {
		t.Fatal(err)
	}
	if r.file(img, "f1") != "content 1" {
		t.Error(r.file(img, "f1"))
	}
	if len(r.srv.Requests("")) != 1 || len(mirror.Requests("manifests")) != 1 {
		t.Errorf("registry: %v, mirror: %v", r.srv.Requests(""), mirror.Requests(""))
	}
}
