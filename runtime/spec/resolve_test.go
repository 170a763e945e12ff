package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making mounts and devices needs root")
	}
}

// tmpfs mounts one for the test, with the given propagation.
func tmpfs(t *testing.T, propagation uintptr) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	if err := unix.Mount("", dir, "", propagation, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPrepareMounts(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	if err := os.Mkdir(real, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(real, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link, dangling := filepath.Join(dir, "link"), filepath.Join(dir, "dangling")
	for from, to := range map[string]string{link: "real", dangling: "nowhere"} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	for situation, c := range map[string]struct {
		host, want string
		kind       func(error) bool
	}{
		"a directory":                 {host: real, want: real},
		"a file":                      {host: file, want: file},
		"a link":                      {host: link, want: real},
		"a file through a link":       {host: link + "/file", want: file},
		"missing, made":               {host: dir + "/a/b", want: dir + "/a/b"},
		"missing, made through links": {host: link + "/new", want: real + "/new"},
		"below a file":                {host: file + "/x", kind: errdefs.IsFailedPrecondition},
		"a link to nowhere":           {host: dangling, kind: func(err error) bool { return err != nil }},
	} {
		t.Run(situation, func(t *testing.T) {
			got, err := PrepareMounts([]*runtimeapi.Mount{{ContainerPath: "/m", HostPath: c.host}})
			if c.kind != nil {
				if !c.kind(err) || !strings.Contains(err.Error(), "mounts[0].host_path") || !strings.Contains(err.Error(), c.host) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || got[0].Path != c.want {
				t.Fatalf("got %v, %v, want %s", got, err, c.want)
			}
			info, err := os.Stat(c.want)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(situation, "missing") && (!info.IsDir() || info.Mode().Perm() != 0o755) {
				t.Errorf("made as %s", info.Mode())
			}
		})
	}
}

func TestPropagationOfTheSource(t *testing.T) {
	for situation, c := range map[string]struct {
		flags         uintptr
		shared, slave bool
	}{
		"private": {flags: unix.MS_PRIVATE},
		"shared":  {flags: unix.MS_SHARED, shared: true},
	} {
		t.Run(situation, func(t *testing.T) {
			dir := tmpfs(t, c.flags)
			inside := filepath.Join(dir, "deep er") // mountinfo escapes blanks
			got, err := PrepareMounts([]*runtimeapi.Mount{{HostPath: inside, Propagation: runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL}})
			if err != nil {
				t.Fatal(err)
			}
			if want := (Source{Path: inside, MountPoint: dir, Shared: c.shared}); !reflect.DeepEqual(got[0], want) {
				t.Errorf("got %+v, want %+v", got[0], want)
			}
		})
	}
	t.Run("a slave, on top of another mount", func(t *testing.T) {
		master, dir := tmpfs(t, unix.MS_SHARED), tmpfs(t, unix.MS_SHARED)
		if err := unix.Mount(master, dir, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
		if err := unix.Mount("", dir, "", unix.MS_SLAVE, ""); err != nil {
			t.Fatal(err)
		}
		got, err := PrepareMounts([]*runtimeapi.Mount{{HostPath: dir, Propagation: runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER}})
		if err != nil {
			t.Fatal(err)
		}
		if want := (Source{Path: dir, MountPoint: dir, Slave: true}); !reflect.DeepEqual(got[0], want) {
			t.Errorf("got %+v, want %+v", got[0], want)
		}
	})
}

func TestFindDevices(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	mknod := func(name string, kind, major, minor uint32) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(path, kind|0o640, int(unix.Mkdev(major, minor))); err != nil {
			t.Fatal(err)
		}
	}
	mknod("null", unix.S_IFCHR, 1, 3)
	mknod("bus/usb/001", unix.S_IFCHR, 189, 1)
	mknod("bus/disk", unix.S_IFBLK, 8, 16)
	mknod("bus/fifo", unix.S_IFIFO, 0, 0)
	if err := os.WriteFile(dir+"/bus/readme", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"link", "bus/link"} {
		if err := os.Symlink(dir+"/null", filepath.Join(dir, l)); err != nil {
			t.Fatal(err)
		}
	}
	show := func(list []Device) string {
		var out []string
		for _, d := range list {
			out = append(out, fmt.Sprintf("%s %s%d:%d %o %s", d.Node.Path, d.Node.Type, d.Node.Major, d.Node.Minor, *d.Node.FileMode, d.Access))
		}
		return strings.Join(out, ", ")
	}
	for situation, c := range map[string]struct {
		device *runtimeapi.Device
		want   string
		kind   func(error) bool
	}{
		"one":                 {device: &runtimeapi.Device{HostPath: "/null", ContainerPath: "/dev/n", Permissions: "r"}, want: "/dev/n c1:3 640 r"},
		"through a link":      {device: &runtimeapi.Device{HostPath: "/link", ContainerPath: "/dev/n"}, want: "/dev/n c1:3 640 rwm"},
		"all of a directory":  {device: &runtimeapi.Device{HostPath: "/bus", ContainerPath: "/dev/bus/"}, want: "/dev/bus/disk b8:16 640 rwm, /dev/bus/usb/001 c189:1 640 rwm"},
		"under its own name":  {device: &runtimeapi.Device{HostPath: "/null"}, want: dir + "/null c1:3 640 rwm"},
		"a file":              {device: &runtimeapi.Device{HostPath: "/bus/readme"}, kind: errdefs.IsInvalidArgument},
		"a FIFO":              {device: &runtimeapi.Device{HostPath: "/bus/fifo"}, kind: errdefs.IsInvalidArgument},
		"nothing":             {device: &runtimeapi.Device{HostPath: "/none"}, kind: errdefs.IsNotFound},
		"a path below a file": {device: &runtimeapi.Device{HostPath: "/null/x"}, kind: errdefs.IsFailedPrecondition},
	} {
		t.Run(situation, func(t *testing.T) {
			host := dir + c.device.GetHostPath()
			got, err := findDevices([]*runtimeapi.Device{{HostPath: host, ContainerPath: c.device.GetContainerPath(), Permissions: c.device.GetPermissions()}})
			if c.kind != nil {
				if err == nil || !c.kind(err) || !strings.Contains(err.Error(), "devices[0].host_path") || !strings.Contains(err.Error(), dir) {
					t.Errorf("got error %v", err)
				}
				return
			}
			if err != nil || show(got) != c.want {
				t.Errorf("got  %s, %v\nwant %s", show(got), err, c.want)
			}
		})
	}
}

func TestHostDevices(t *testing.T) {
	list, err := hostDevices()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		for _, no := range notForContainers {
			if d.Path == no || strings.HasPrefix(d.Path, no+"/") {
				t.Errorf("%s is each container's own", d.Path)
			}
		}
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, huge := write("good.json", `{"defaultAction":"SCMP_ACT_LOG"}`), write("huge.json", strings.Repeat(" ", maxProfile+1))
	with := func(path string) *container {
		c := on(secure(func(s *security) {
			s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: path}
		})).Config
		return c
	}
	r, err := Resolve(with(good), noAppArmor{})
	if err != nil || string(r.SeccompProfile) != `{"defaultAction":"SCMP_ACT_LOG"}` || len(r.HostDevices) != 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := Resolve(with(dir+"/missing.json"), noAppArmor{}); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), dir+"/missing.json") {
		t.Errorf("a profile that is missing: got %v", err)
	}
	if _, err := Resolve(with(huge), noAppArmor{}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), huge) {
		t.Errorf("a profile that is too large: got %v", err)
	}
	if _, err := Resolve(with(dir), noAppArmor{}); err == nil {
		t.Error("a directory is no profile")
	}
	if _, err := Resolve(&container{}, noAppArmor{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an invalid configuration: got %v", err)
	}
	in := on(privileged)
	in.Config.Linux.SecurityContext.Seccomp = with(dir + "/missing.json").Linux.SecurityContext.Seccomp
	if _, err := Resolve(in.Config, noAppArmor{}); err != nil {
		t.Errorf("privileged containers have no seccomp profile to read: got %v", err)
	}
}

func TestDetectHost(t *testing.T) {
	h, err := DetectHost()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", h)
	if h.Hostname == "" || h.RlimitMax["RLIMIT_NOFILE"] == 0 || !h.Seccomp {
		t.Errorf("got %+v", h)
	}
	if os.Getuid() == 0 && !h.has("CAP_CHOWN") {
		t.Error("root without CAP_CHOWN")
	}
	// Whatever the host, an ordinary container must have a spec.
	if _, err := Build(on(func(in *Input) { in.Node.Host = h })); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	for _, d := range []string{"hugepages-64kB", "hugepages-2048kB", "hugepages-1048576kB", "other"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.HugepageSizes = nil
	if err := h.detectHugepages(dir); err != nil || fmt.Sprint(h.HugepageSizes) != "[1GB 2MB 64KB]" {
		t.Errorf("got %v, %v", h.HugepageSizes, err)
	}
}
