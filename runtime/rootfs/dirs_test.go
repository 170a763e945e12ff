package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-cri/berth/linux/namespace"
	"github.com/containerd/errdefs"
)

func TestMakeDirs(t *testing.T) {
	for situation, c := range map[string]struct {
		layers []map[string]string // topmost first
		paths  []string
		want   []string // made in the upper: path, mode, owner
		kind   func(error) bool
	}{
		"nothing declared":          {layers: []map[string]string{{"a": "dir"}}},
		"there already":             {layers: []map[string]string{{"a/b": "dir"}, {"c/d": "dir"}}, paths: []string{"/a/b", "/c/d", "/"}},
		"of no layers":              {paths: []string{"/a/b"}, want: []string{"a 755 0", "a/b 755 0"}},
		"below what is there":       {layers: []map[string]string{{"x": "dir"}, {"var/lib": "dir"}}, paths: []string{"/var/lib/data/deep"}, want: []string{"var 755 0", "var/lib 750 7", "var/lib/data 755 0", "var/lib/data/deep 755 0"}},
		"of one layer":              {layers: []map[string]string{{"var/lib": "dir"}}, paths: []string{"var/lib/data/"}, want: []string{"var 755 0", "var/lib 750 7", "var/lib/data 755 0"}},
		"through a link":            {layers: []map[string]string{{"var/run": "-> /run", "run": "dir"}, {"x": "dir"}}, paths: []string{"/var/run/app"}, want: []string{"run 755 0", "run/app 755 0"}},
		"through a link out of it":  {layers: []map[string]string{{"out": "-> ../../../../tmp"}, {"tmp": "dir"}}, paths: []string{"/out/x"}, want: []string{"tmp 755 0", "tmp/x 755 0"}},
		"two of one parent":         {layers: []map[string]string{{"x": "dir"}}, paths: []string{"/d/a", "/d/b"}, want: []string{"d 755 0", "d/a 755 0", "d/b 755 0"}},
		"that climb":                {layers: []map[string]string{{"x": "dir"}}, paths: []string{"../../../x/y"}, want: []string{"x 755 0", "x/y 755 0"}},
		"a file":                    {layers: []map[string]string{{"f": "text"}}, paths: []string{"/f"}},
		"below a file":              {layers: []map[string]string{{"f": "text"}}, paths: []string{"/f/x"}, kind: errdefs.IsFailedPrecondition},
		"with a NUL":                {layers: []map[string]string{{"x": "dir"}}, paths: []string{"/a\x00"}, kind: errdefs.IsInvalidArgument},
		"longer than any path":      {layers: []map[string]string{{"x": "dir"}}, paths: []string{"/" + strings.Repeat("a/", 3000)}, kind: errdefs.IsInvalidArgument},
		"what was taken away above": {layers: []map[string]string{{"gone": "whiteout"}, {"gone": "dir"}}, paths: []string{"/gone"}, want: []string{"gone 755 0"}},
	} {
		t.Run(situation, func(t *testing.T) {
			s := openStore(t)
			noLeaks(t)
			var layers []string
			for _, l := range c.layers {
				dir := layer(t, l)
				if lib := filepath.Join(dir, "var/lib"); os.Chmod(lib, 0o750) == nil {
					os.Chown(lib, 7, 7)
				}
				layers = append(layers, dir)
			}
			o, err := s.Prepare("id", layers, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = s.MakeDirs(o, c.paths, nil)
			if c.kind != nil {
				if err == nil || !c.kind(err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if got := tree(t, o.Upper); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("made %q, %v", got, err)
			}
			mountsAs(t, o, nil)
		})
	}
}

func TestMakeDirsOfAUserNamespace(t *testing.T) {
	s := openStore(t)
	ids := &namespace.Mapping{UIDs: namespace.Range{Host: 100000, Length: 65536}, GIDs: namespace.Range{Host: 100000, Length: 65536}}
	dir := layer(t, map[string]string{"var/lib": "dir"})
	if err := os.Chown(filepath.Join(dir, "var/lib"), 7, 7); err != nil {
		t.Fatal(err)
	}
	o, err := s.Prepare("id", []string{dir}, ids)
	if err == nil {
		err = s.MakeDirs(o, []string{"/var/lib/x"}, ids)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, o.Upper), []string{"var 755 100000", "var/lib 755 100007", "var/lib/x 755 100000"}; !slices.Equal(got, want) {
		t.Errorf("made %q", got)
	}
}

// tree lists what is below a directory: path, mode, owner.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t).Uid
		all = append(all, fmt.Sprintf("%s %o %d", strings.TrimPrefix(path, dir+"/"), info.Mode().Perm(), owner))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
