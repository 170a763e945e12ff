package embedded

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Images that try to have something of the host mounted over, masked, written or
// read. "OUTSIDE" in a layer is a directory of the host with a file in it, which
// has to stay as it is.
func TestHostileImages(t *testing.T) {
	const up = "../../../../../../../../.."
	for name, tc := range map[string]struct {
		files  map[string]string
		edit   func(*specs.Spec, string)
		script string
		want   string // of the output, or of the error
	}{
		"a mount point is a link to the host": {
			files:  map[string]string{"data": "-> OUTSIDE"},
			edit:   withMount(specs.Mount{Destination: "/data/x/y", Type: "tmpfs"}),
			script: "readlink /data; ls -d $(readlink /data)/x/y | grep -o x/y; ls $(readlink /data)/x",
			want:   `(?s)/.*\nx/y\ny\n`,
		},
		"by way of ..": {
			files:  map[string]string{"data": "-> " + up + "OUTSIDE"},
			edit:   withMount(specs.Mount{Destination: "/data/x", Type: "tmpfs"}),
			script: "grep -c '/x ' /proc/self/mountinfo", want: "1\n",
		},
		"a file's mount point is a dangling link": {
			files:  map[string]string{"etc/resolv.conf": "-> " + up + "/run/systemd/resolve/stub.conf"},
			edit:   func(s *specs.Spec, dir string) { withMount(bind(dir+"/keep", "/etc/resolv.conf", "bind"))(s, dir) },
			script: "cat /run/systemd/resolve/stub.conf /etc/resolv.conf", want: "keepkeep",
		},
		"dangling links in a circle": {
			files: map[string]string{"a": "-> b/x", "b": "-> a/x"},
			edit:  withMount(specs.Mount{Destination: "/a/y", Type: "tmpfs"}),
			want:  `mount /a/y: prepare the mount point: too many levels of symbolic links`,
		},
		"/proc is a link": {
			files: map[string]string{"proc": "-> OUTSIDE"},
			want:  `mount /proc: the image has a symbolic link there`,
		},
		"/sys is a link": {
			files: map[string]string{"sys": "-> /tmp"},
			want:  `mount /sys: the image has a symbolic link there`,
		},
		"/dev is a link": {
			files: map[string]string{"dev": "-> OUTSIDE"}, script: "stat -c %t:%T /dev/null; ls /dev | grep -c keep", want: "1:3\n0\n",
		},
		"a masked path is a link": {
			files: map[string]string{"secret": "-> OUTSIDE/keep"},
			edit:  func(s *specs.Spec, _ string) { s.Linux.MaskedPaths = []string{"/secret"} },
			want:  "", // it does not exist in the container
		},
		"a read-only path is a link": {
			files: map[string]string{"ro": "-> OUTSIDE"},
			edit:  func(s *specs.Spec, _ string) { s.Linux.ReadonlyPaths = []string{"/ro"} },
			want:  "",
		},
		"the working directory is a link": {
			files:  map[string]string{"home/w": "-> OUTSIDE"},
			edit:   func(s *specs.Spec, _ string) { s.Process.Cwd = "/home/w" },
			script: "ls -a | tr '\\n' ' '", want: ". .. ",
		},
		"the working directory is a descriptor": {
			edit: func(s *specs.Spec, _ string) { s.Process.Cwd = "/proc/self/fd/3" },
			want: `directory /proc/self/fd/3: too many levels of symbolic links`,
		},
		"something else where a device should be": {
			files: map[string]string{"dev/null": "plain:x"},
			edit:  func(s *specs.Spec, _ string) { s.Mounts = s.Mounts[:1] },
			want:  `device /dev/null: something else is in its place`,
		},
		"a link where a device should be": {
			files: map[string]string{"dev/null": "-> OUTSIDE/keep"},
			edit:  func(s *specs.Spec, _ string) { s.Mounts = s.Mounts[:1] },
			want:  `device /dev/null: something else is in its place`,
		},
		"a terminal multiplexer of its own": {
			files: map[string]string{"dev/pts/ptmx": "plain:x", "dev/console": "-> OUTSIDE/keep"},
			edit: func(s *specs.Spec, _ string) {
				s.Mounts = s.Mounts[:1]
				s.Process.Terminal = true
			},
			want: `terminal: /dev/pts is not a devpts`,
		},
		"a cgroup mount point that is a link": {
			files: map[string]string{"cg": "-> OUTSIDE"},
			edit: func(s *specs.Spec, _ string) {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: "/cg", Type: "cgroup", Options: []string{"ro"}})
			},
			script: "ls /cg >/dev/null && echo ok", want: "ok\n|",
		},
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			keep := filepath.Join(outside, "keep")
			if err := os.WriteFile(keep, []byte("keep"), 0o644); err != nil {
				t.Fatal(err)
			}
			files := map[string]string{}
			for name, content := range tc.files {
				files[name] = replaceOutside(content, outside)
			}
			s := script(tc.script)
			if tc.edit != nil {
				tc.edit(s, outside)
			}
			p, err := Compile(s, overlayOf(t, layer(t, files)))
			if err != nil {
				t.Fatal(err)
			}
			r, err := try(t, p, nil)
			got := r.stdout
			if err != nil {
				got = err.Error()
			}
			if !fullMatch(tc.want, got) {
				t.Errorf("got %q, want %q; stderr %q", got, tc.want, r.stderr)
			}
			left, _ := os.ReadDir(outside)
			if b, err := os.ReadFile(keep); err != nil || string(b) != "keep" || len(left) != 1 {
				t.Errorf("the host was touched: %q %v, %v", b, err, left)
			}
			if err := contains("/proc/self/mountinfo", outside); err == nil {
				t.Error("something is mounted on the host")
			}
		})
	}
}

// A volume whose content changes while it is mounted into: another container
// swaps a directory with a link to the host (CVE-2021-30465).
func TestVolumeThatChangesMeanwhile(t *testing.T) {
	volume, outside := t.TempDir(), t.TempDir()
	os.Mkdir(filepath.Join(volume, "d"), 0o755)
	os.Symlink(outside, filepath.Join(volume, "link"))
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				exchange(filepath.Join(volume, "d"), filepath.Join(volume, "link"))
			}
		}
	}()
	o := overlayOf(t)
	for range 100 {
		s := specOf("true")
		s.Mounts = append(s.Mounts, bind(volume, "/v", "bind"), specs.Mount{Destination: "/v/d/sub", Type: "tmpfs"})
		p, err := Compile(s, freshUpper(t, o))
		if err != nil {
			t.Fatal(err)
		}
		try(t, p, nil) // it may fail, but not reach the host
	}
	close(stop)
	<-done
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Fatalf("the host was touched: %v %v", left, err)
	}
}
