package layer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What whiteouts mean is for overlayfs to say: two layers, unpacked on their
// own, are looked at through it.
func TestOverlayOfUnpackedLayers(t *testing.T) {
	lower := []entry{
		folder("etc"), file("etc/passwd", "lower"), file("etc/gone", "lower"), folder("dir"), file("dir/a", "lower"), file("dir/b", "lower"),
		folder("again"), file("again/old", "lower"), folder("removed"), file("removed/x", "lower"), folder("kept"), file("kept/x", "lower"),
	}
	for _, c := range []struct {
		name  string
		upper []entry
		want  []string // files
	}{
		{"a file is replaced while a file and a directory are gone",
			[]entry{file("etc/passwd", "upper"), file("etc/.wh.gone", ""), file(".wh.removed", "")},
			[]string{"again/old=lower", "dir/a=lower", "dir/b=lower", "etc/passwd=upper", "kept/x=lower"}},
		{"an opaque directory",
			[]entry{folder("dir"), file("dir/.wh..wh..opq", ""), file("dir/c", "upper")},
			[]string{"again/old=lower", "dir/c=upper", "etc/gone=lower", "etc/passwd=lower", "kept/x=lower", "removed/x=lower"}},
		{"a directory is gone and made again",
			[]entry{file(".wh.again", ""), folder("again"), file("again/new", "upper"), folder("dir"), file("dir/new", "upper"), file(".wh.dir", "")},
			[]string{"again/new=upper", "dir/new=upper", "etc/gone=lower", "etc/passwd=lower", "kept/x=lower", "removed/x=lower"}},
		{"forged attributes hide nothing",
			[]entry{folder("dir", attr("trusted.overlay.opaque", "y")), folder("etc", attr("trusted.overlay.redirect", "/kept"))},
			[]string{"again/old=lower", "dir/a=lower", "dir/b=lower", "etc/gone=lower", "etc/passwd=lower", "kept/x=lower", "removed/x=lower"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := t.TempDir()
			dirs := map[string][]entry{"lower": lower, "upper": c.upper}
			for name, entries := range dirs {
				path := filepath.Join(base, name)
				if err := os.Mkdir(path, 0o755); err != nil {
					t.Fatal(err)
				}
				if _, err := Unpack(context.Background(), bytes.NewReader(pack(t, entries...)), path, Options{}); err != nil {
					t.Fatal(err)
				}
			}
			merged := filepath.Join(base, "merged")
			if err := os.Mkdir(merged, 0o755); err != nil {
				t.Fatal(err)
			}
			data := "lowerdir=" + filepath.Join(base, "upper") + ":" + filepath.Join(base, "lower")
			if err := unix.Mount("overlay", merged, "overlay", 0, data); err != nil {
				if errors.Is(err, unix.ENODEV) {
					t.Skip("no overlayfs in this kernel")
				}
				t.Fatal(err)
			}
			defer unix.Unmount(merged, unix.MNT_DETACH)
			var got []string
			for _, line := range describe(t, merged) {
				path := strings.Fields(line)[0]
				if b, err := os.ReadFile(filepath.Join(merged, path)); err == nil {
					got = append(got, path+"="+string(b))
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Fatalf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
