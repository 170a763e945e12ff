package embedded

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// layer makes an image layer of files. A name that ends in "/" is a directory, a
// content "-> x" a symbolic link, "#!" and the like are executable.
func layer(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		target, isLink := strings.CutPrefix(content, "-> ")
		var err error
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case isLink:
			err = os.Symlink(target, path)
		case strings.HasPrefix(content, "plain:"):
			err = os.WriteFile(path, []byte(content[6:]), 0o644)
		default:
			err = os.WriteFile(path, []byte(content), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFailuresAreNamed(t *testing.T) {
	image := map[string]string{
		"bin/plain": "plain:x", "bin/wrong": "\x00\x01garbage", "bin/lost": "#!/no/such/interpreter\n", "bin/dir/": "",
		"a-file": "plain:", "link-to-proc": "-> /proc",
	}
	for name, tc := range map[string]struct {
		edit func(*specs.Spec, string)
		want string // of the message
		kind error
	}{
		"no such program in PATH": {program("frob"), `exec: "frob": executable file not found in $PATH`, errdefs.ErrNotFound},
		"no such program":         {program("/bin/frob"), `exec: "/bin/frob": stat /bin/frob: no such file or directory`, errdefs.ErrNotFound},
		"not executable":          {program("/bin/plain"), `exec: "/bin/plain": permission denied`, errdefs.ErrPermissionDenied},
		"not executable in PATH":  {program("plain"), `exec: "plain": permission denied`, errdefs.ErrPermissionDenied},
		"a directory":             {program("/bin/dir"), `exec: "/bin/dir": is a directory`, errdefs.ErrInvalidArgument},
		"a wrong format":          {program("/bin/wrong"), `exec: "/bin/wrong": exec format error`, errdefs.ErrInvalidArgument},
		"no interpreter":          {program("/bin/lost"), `exec: "/bin/lost": its interpreter does not exist`, errdefs.ErrNotFound},
		"an empty name":           {program(""), `exec: "": executable file not found in $PATH`, errdefs.ErrNotFound},
		"not in the working directory": {func(s *specs.Spec, _ string) {
			s.Process.Args, s.Process.Cwd, s.Process.Env = []string{"sh"}, "/bin", []string{"PATH=:."}
		}, `exec: "sh": executable file not found in $PATH`, errdefs.ErrNotFound},
		"a missing source": {withMount(bind("/no/such/thing", "/data", "rbind")),
			"mount /data: source /no/such/thing does not exist", errdefs.ErrNotFound},
		"a directory over a file": {withMount(bind("/tmp", "/a-file", "bind")),
			"mount /a-file: source /tmp is a directory, but the mount point is a file", errdefs.ErrInvalidArgument},
		"a file over a directory": {func(s *specs.Spec, dir string) {
			os.WriteFile(dir+"/f", nil, 0o644)
			s.Mounts = append(s.Mounts, bind(dir+"/f", "/bin/dir", "bind"))
		}, "mount /bin/dir: source .*/f is a file, but the mount point is a directory", errdefs.ErrInvalidArgument},
		"a path through a file": {withMount(bind("/tmp", "/a-file/x", "bind")),
			"mount /a-file/x: prepare the mount point: not a directory", errdefs.ErrInvalidArgument},
		"an unknown file system": {withMount(specs.Mount{Destination: "/x", Type: "frobfs", Source: "x"}),
			"mount /x: the kernel has no file system frobfs", errdefs.ErrNotImplemented},
		"an unknown option": {withMount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"frob=1"}}),
			"mount /x: tmpfs: Unknown parameter 'frob'", errdefs.ErrInvalidArgument},
		"a bad value": {withMount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"size=frob"}}),
			"mount /x: tmpfs: Bad value for 'size'", errdefs.ErrInvalidArgument},
		"a mount in proc by way of a link": {withMount(bind("/tmp", "/link-to-proc/sys", "bind")),
			"mount /link-to-proc/sys: the mount point is in /proc", errdefs.ErrPermissionDenied},
		"an unknown sysctl": {func(s *specs.Spec, _ string) { s.Linux.Sysctl = map[string]string{"net.frob": "1"} },
			"sysctl net/frob: no such file or directory", errdefs.ErrNotFound},
		"a limit above the kernel's": {func(s *specs.Spec, _ string) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1 << 40, Hard: 1 << 40}}
		}, "rlimit RLIMIT_NOFILE: the hard limit is above what Berth or the kernel allows", errdefs.ErrPermissionDenied},
		"a working directory that is a file": {func(s *specs.Spec, _ string) { s.Process.Cwd = "/a-file" },
			"working directory /a-file: not a directory", errdefs.ErrInvalidArgument},
		"a terminal without devpts": {func(s *specs.Spec, _ string) {
			s.Process.Terminal = true
			s.Mounts = s.Mounts[:2]
		}, "terminal: /dev/pts/ptmx: no such file or directory", errdefs.ErrNotFound},
		"a namespace that is gone": {func(s *specs.Spec, _ string) { s.Linux.Namespaces[2].Path = "/no/such/pin" },
			"join the ipc namespace /no/such/pin: no such file or directory", errdefs.ErrNotFound},
		"a namespace of another type": {func(s *specs.Spec, _ string) { s.Linux.Namespaces[2].Path = "/proc/self/ns/uts" },
			"join the ipc namespace /proc/self/ns/uts: invalid argument", errdefs.ErrInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			before := openFiles(t)
			s := specOf("true")
			tc.edit(s, t.TempDir())
			p, err := Compile(s, overlayOf(t, layer(t, image)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = try(t, p, nil)
			var step *StepError
			if !errors.As(err, &step) || !matches(err.Error(), tc.want) {
				t.Fatalf("got  %v\nwant %s", err, tc.want)
			}
			if !errors.Is(err, tc.kind) || step.Errno == 0 || !errors.Is(err, step.Errno) {
				t.Errorf("kind of %v (%d) is not %v", err, step.Errno, tc.kind)
			}
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
				t.Errorf("a child is left: %d %v", pid, err)
			}
			if after := openFiles(t); after > before+4 { // the pipes of try close later
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func matches(text, beginning string) bool {
	first, last, ok := strings.Cut(beginning, ".*")
	return strings.HasPrefix(text, first) && (!ok || strings.HasSuffix(text, last))
}

func TestLayersThatAreGone(t *testing.T) {
	o := overlayOf(t)
	o.Lower = append(o.Lower, "/no/such/layer")
	p, err := Compile(specOf("true"), o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = try(t, p, nil)
	if err == nil || err.Error() != "mount the root file system: /no/such/layer does not exist" {
		t.Fatal(err)
	}
}

func TestPlanThatIsNone(t *testing.T) {
	for name, tc := range map[string]struct{ plan, want string }{
		"empty":     {"", "read the plan: it is empty or too large"},
		"foreign":   {"hello", "read the plan: plan: not a plan"},
		"truncated": {"BPLN\x01", "exec: the plan ends without it"},
	} {
		_, err := try(t, Prepared{Plan: []byte(tc.plan), CloneFlags: unix.CLONE_NEWNS}, nil)
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := launcher.Start(t.Context(), Start{}); err == nil || !strings.Contains(err.Error(), "read the plan") {
		t.Errorf("no plan at all: %v", err)
	}
}

// The berth-init that never answers is the test's own binary, see TestMain.
func TestStartGivesUpWithItsContext(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLauncher(self)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	f := planFile(t, Prepared{Plan: []byte("x")})
	defer f.Close()
	if _, err := l.Start(ctx, Start{Plan: f}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Fatalf("it is left: %v", err)
	}
}

func TestInitThatDies(t *testing.T) {
	l, err := NewLauncher("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := planFile(t, Prepared{Plan: []byte("x")})
	defer f.Close()
	_, err = l.Start(t.Context(), Start{Plan: f})
	var step *StepError
	if !errors.As(err, &step) {
		t.Fatal(err)
	}
}

func TestInitFromDiskWhereMemoryIsNotExecutable(t *testing.T) {
	l := &Launcher{}
	if err := l.loadFromDisk("/bin/busybox"); err != nil {
		t.Fatal(err)
	}
	defer l.program.Close()
	if _, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(l.program.Fd())), os.O_WRONLY, 0); err == nil {
		t.Fatal("it can be written")
	}
}

func TestStepsFitIntoOnePlan(t *testing.T) {
	s := specOf("true")
	s.Process.Env = []string{strings.Repeat("x", plan.MaxSize)}
	if _, err := Compile(s, Overlay{Lower: []string{"/l"}, Upper: "/u", Work: "/w"}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Fatal(err)
	}
}

func TestAppArmorProfiles(t *testing.T) {
	if !hasAppArmor() {
		t.Skip("the host has no AppArmor")
	}
	s := specOf("cat", "/proc/self/attr/apparmor/current")
	s.Process.ApparmorProfile = "unconfined"
	p, err := Compile(s, overlayOf(t))
	if r := run(t, p, err); r.stdout != "unconfined\n" {
		t.Errorf("%q %q", r.stdout, r.stderr)
	}
	sleeper := script("exec sleep 1000")
	sleeper.Process.ApparmorProfile = "unconfined"
	target := background(t, sleeper, overlayOf(t))
	if r, err := execIn(t, sleeper, target, nil, "cat /proc/self/attr/apparmor/current"); err != nil || r.stdout != "unconfined\n" {
		t.Errorf("an exec: %q %v", r.stdout, err)
	}
	s.Process.ApparmorProfile = "no-such-profile"
	p, err = Compile(s, overlayOf(t))
	if _, err = try(t, p, err); err == nil || !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("an unknown profile: %v", err)
	}
}
