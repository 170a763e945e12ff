package embedded

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// layersOf makes directories with the files of each ("path": content; a path that
// ends in "/" is a directory, a content that begins with "->" a link, "-" a
// whiteout).
func layersOf(t *testing.T, contents ...map[string]string) []string {
	t.Helper()
	var dirs []string
	for _, files := range contents {
		dir := t.TempDir()
		dirs = append(dirs, dir)
		for path, content := range files {
			to := filepath.Join(dir, path)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				t.Fatal(err)
			}
			var err error
			target, link := strings.CutPrefix(content, "->")
			switch {
			case strings.HasSuffix(path, "/"):
				err = os.MkdirAll(to, 0o755)
			case link:
				err = os.Symlink(target, to)
			case content == "-":
				err = unix.Mknod(to, unix.S_IFCHR, 0)
			default:
				err = os.WriteFile(to, []byte(content), 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return dirs
}

func TestLayersAsVolume(t *testing.T) {
	image := layersOf(t,
		map[string]string{"etc/name": "upper\n", "gone": "-", "bin/run": "#!/bin/sh\necho ran\n", "out": "->../../../../../etc", "abs": "->/etc/name", "odd:name,x/f": "odd\n"},
		map[string]string{"etc/name": "lower\n", "etc/only": "below\n", "gone": "x", "deep/er/f": "f\n"},
	)
	overlay := func(options ...string) func(*specs.Spec, string) {
		return withMount(specs.Mount{
			Destination: "/v", Type: "overlay", Source: "overlay",
			Options: append([]string{"ro", "nosuid", "nodev", "lowerdir=" + strings.Join(image, ":")}, options...),
		})
	}
	single := func(options ...string) func(*specs.Spec, string) {
		return withMount(specs.Mount{
			Destination: "/v", Type: "bind", Source: image[1], Options: append([]string{"bind", "private", "ro", "nosuid", "nodev"}, options...),
		})
	}
	for name, tc := range map[string]situation{
		"over each other":              {overlay(), "cat /v/etc/name /v/etc/only; ls /v", "upper\nbelow\nabs\nbin\ndeep\netc\nodd:name,x\nout\n"},
		"nobody writes":                {overlay(), "touch /v/x || rm /v/etc/name || echo no", "no\n"},
		"programs run":                 {overlay(), "/v/bin/run", "ran\n"},
		"attributes":                   {overlay("noexec"), "/v/bin/run || awk '$5==\"/v\"{print $6}' /proc/self/mountinfo", "ro,nosuid,nodev,noexec,relatime\n"},
		"a directory of it":            {overlay(subdirOption + "etc"), "ls /v; cat /v/name", "name\nonly\nupper\n"},
		"a deep one":                   {overlay(subdirOption + "deep/er"), "cat /v/f", "f\n"},
		"a file of it":                 {overlay(subdirOption + "etc/only"), "cat /v; echo > /v || echo no", "below\nno\n"},
		"a name with odd characters":   {overlay(subdirOption + "odd:name,x"), "cat /v/f", "odd\n"},
		"a link in it":                 {overlay(subdirOption + "abs"), "cat /v", "upper\n"},
		"a link that leads out":        {overlay(subdirOption + "out"), "ls /v", "name\nonly\n"},
		"nothing else is left mounted": {overlay(subdirOption + "etc"), "grep -c overlay /proc/self/mountinfo; cut -d' ' -f5 /proc/self/mountinfo | grep -c /v", "2\n1\n"},
		"one layer":                    {single(), "cat /v/etc/name; touch /v/x || echo no", "lower\nno\n"},
		"a directory of one layer":     {single(subdirOption + "etc"), "ls /v", "name\nonly\n"},
		"a file of one layer":          {single(subdirOption + "etc/only"), "cat /v", "below\n"},
		"several at once": {func(s *specs.Spec, dir string) {
			overlay(subdirOption+"etc")(s, dir)
			single()(s, dir)
			s.Mounts[len(s.Mounts)-1].Destination = "/w/x"
		}, "cat /v/name /w/x/etc/name", "upper\nlower\n"},
		"the layers of the root itself": {func(s *specs.Spec, _ string) {
			withMount(specs.Mount{Destination: "/v", Type: "bind", Source: imageDir, Options: []string{"bind", "ro", subdirOption + "bin"}})(s, "")
		}, "/v/sh -c 'echo ran'", "ran\n"},
		"something mounted in it": {func(s *specs.Spec, dir string) {
			single()(s, dir)
			s.Mounts = append(s.Mounts, bind(dir, "/v/deep", "bind"))
		}, "ls /v/deep | wc -l", "0\n"},
	} {
		t.Run(name, func(t *testing.T) { check(t, tc) })
	}
	list, err := os.ReadDir(image[0])
	if err != nil || len(list) != 6 {
		t.Errorf("the layer has changed: %v, %v", list, err)
	}
	if err := contains("/proc/self/mountinfo", image[0]); err == nil {
		t.Error("a mount is left on the host")
	}
}

// A path longer than fsconfig takes is what every path is before 6.8.
func TestLayersAsVolumeByString(t *testing.T) {
	var dirs []string
	for _, dir := range layersOf(t, map[string]string{"etc/name": "upper\n"}, map[string]string{"etc/only": "below\n"}) {
		long := filepath.Join(dir, strings.Repeat("x", 200), strings.Repeat("y", 200))
		if err := os.MkdirAll(long, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "etc"), filepath.Join(long, "etc")); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, long)
	}
	for option, want := range map[string]string{"nosuid": "etc\n", subdirOption + "etc": "name\nonly\n", subdirOption + "etc/only": "/v\n"} {
		check(t, situation{withMount(specs.Mount{
			Destination: "/v", Type: "overlay", Options: []string{"ro", "lowerdir=" + strings.Join(dirs, ":"), option},
		}), "ls /v; touch /v/x && echo yes; awk '$5==\"/v\"' /proc/self/mountinfo | wc -l", want + "1\n"})
	}
}

func TestLayersAsVolumeThatFail(t *testing.T) {
	image := layersOf(t, map[string]string{"f": "f", "loop": "->loop"}, map[string]string{"g": "g"})
	both := "lowerdir=" + strings.Join(image, ":")
	for name, tc := range map[string]struct {
		kind    string
		options []string
		want    string
	}{
		"a part that is not there":       {"overlay", []string{both, subdirOption + "x/y"}, "the image has no x/y"},
		"a part below a file":            {"overlay", []string{both, subdirOption + "f/y"}, "the image has no f/y"},
		"a link to itself":               {"overlay", []string{both, subdirOption + "loop"}, "loop of the image"},
		"a layer that is not there":      {"overlay", []string{"lowerdir=" + image[0] + ":/nothing/here"}, "/nothing/here does not exist"},
		"the only layer is not there":    {"overlay", []string{"lowerdir=/nothing/here"}, "/nothing/here does not exist"},
		"a relative layer":               {"overlay", []string{"lowerdir=here"}, "not an absolute path"},
		"no layer":                       {"overlay", []string{"ro"}, "no lowerdir"},
		"a part of another file system":  {"tmpfs", []string{subdirOption + "x"}, "X-mount.subdir"},
		"a part of a recursive bind":     {"bind", []string{"rbind", subdirOption + "x"}, "recursive"},
		"an option that is not known":    {"overlay", []string{both, "nonsense"}, "invalid argument"},
		"a directory on a file of image": {"overlay", []string{both}, "is a directory, but the mount point is a file"},
	} {
		t.Run(name, func(t *testing.T) {
			s := script("true")
			target := "/v"
			if strings.HasPrefix(name, "a directory on") {
				target = "/bin/busybox"
			}
			s.Mounts = append(s.Mounts, specs.Mount{Destination: target, Type: tc.kind, Source: image[0], Options: tc.options})
			p, err := Compile(s, overlayOf(t))
			_, err = try(t, p, err)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestSplitLayers(t *testing.T) {
	for text, want := range map[string][]string{
		"/a:/b":      {"/a", "/b"},
		`/a\:b:/c\\`: {"/a:b", `/c\`},
		"":           {""},
	} {
		if got := splitLayers(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q", text, got)
		}
	}
}
