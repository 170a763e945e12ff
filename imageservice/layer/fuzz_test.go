package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// FuzzUnpack feeds blobs of any kind. Whatever comes, nothing beside the
// directory changes; what is accepted has the digests of its bytes and unpacks
// to the same tree again.
func FuzzUnpack(f *testing.F) {
	for _, seed := range [][]entry{
		{folder("d", mode(0o1777)), file("d/f", "hello", attr("user.a", "b")), symlink("d/s", "f"), hardlink("h", "d/f")},
		{symlink("l", "../outside"), file("l/secret", "x"), file("l/.wh.secret", ""), file("l/.wh..wh..opq", "")},
		{folder("d"), file("d/a", ""), symlink("d", "../outside"), file("d/secret", "x"), hardlink("h", "d/secret")},
		{file("../outside/secret", "x")}, {hardlink("h", "../outside/secret"), file("h", "x")},
		{file(".wh...", ""), file(".wh..wh.plnk/x", "")},
		{add(tar.TypeChar, "c", device(0, 0)), folder("c"), add(tar.TypeFifo, "p"), file("p/x", "")},
		{file("a", "1"), folder("a"), file("a", "2"), symlink("a", "a"), file("a/b", "")},
		{file(strings.Repeat("long/", 40)+"name", "x"), file("g", "", func(h *tar.Header) { h.Format = tar.FormatGNU; h.Name = strings.Repeat("g", 200) })},
	} {
		plain := pack(f, seed...)
		f.Add(plain)
		f.Add(gzipped(plain))
		f.Add(zstdOf(plain))
	}
	f.Add([]byte("\x1f\x8b\x08"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		opts := Options{Limits: Limits{Size: 4 << 20, Entries: 500}}
		s := newStage(t)
		res, err := s.unpack(t, blob, opts)
		if err != nil {
			return
		}
		if res.Digest != digest.FromBytes(blob) || res.Compressed != int64(len(blob)) {
			t.Fatalf("%+v", res)
		}
		again, err := os.MkdirTemp(s.base, "again-")
		if err != nil {
			t.Fatal(err)
		}
		opts.Digest, opts.DiffID, opts.Size = res.Digest, res.DiffID, res.Compressed
		if _, err := Unpack(context.Background(), bytes.NewReader(blob), again, opts); err != nil {
			t.Fatalf("not a second time: %v", err)
		}
		if a, b := describe(t, s.dir), describe(t, again); !slices.Equal(a, b) {
			t.Fatalf("another tree the second time:\n%s\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
	})
}
