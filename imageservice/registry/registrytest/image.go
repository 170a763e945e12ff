package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// Layer is a layer in memory.
type Layer struct {
	Blob, Tar []byte
	Type      types.MediaType
}

func (l Layer) Digest() (v1.Hash, error)           { return sum(l.Blob) }
func (l Layer) DiffID() (v1.Hash, error)           { return sum(l.Tar) }
func (l Layer) Compressed() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l.Blob)), nil }
func (l Layer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.Tar)), nil
}
func (l Layer) Size() (int64, error)                { return int64(len(l.Blob)), nil }
func (l Layer) MediaType() (types.MediaType, error) { return l.Type, nil }
func sum(b []byte) (v1.Hash, error)                 { h, _, err := v1.SHA256(bytes.NewReader(b)); return h, err }

// Gzip, Zstd and Plain make layers of the files (path -> content).
func Gzip(t testing.TB, files map[string]string) Layer {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	tarball := archive(t, files)
	if _, err := z.Write(tarball); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return Layer{b.Bytes(), tarball, types.DockerLayer}
}

func Zstd(t testing.TB, files map[string]string) Layer {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	tarball := archive(t, files)
	return Layer{z.EncodeAll(tarball, nil), tarball, types.OCILayerZStd}
}

func Plain(t testing.TB, files map[string]string) Layer {
	t.Helper()
	tarball := archive(t, files)
	return Layer{tarball, tarball, types.OCIUncompressedLayer}
}

func archive(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Image is a Docker schema 2 image for linux/amd64 of the layers.
func Image(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	return ImageFor(t, "amd64", layers...)
}

// ImageFor is an Image for another architecture.
func ImageFor(t testing.TB, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		Architecture: arch, OS: "linux", RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{User: "1002", Cmd: []string{"/bin/sh"}},
	})
	if err == nil {
		img, err = mutate.AppendLayers(img, layers...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// OCI is the same image with the media types of the OCI.
func OCI(img v1.Image) v1.Image {
	return mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
}

// Index is a manifest list of images by "os/architecture".
func Index(t testing.TB, images map[string]v1.Image) v1.ImageIndex {
	t.Helper()
	var idx v1.ImageIndex = empty.Index
	for _, platform := range slices.Sorted(maps.Keys(images)) {
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: images[platform], Descriptor: v1.Descriptor{Platform: p}})
	}
	return idx
}
