package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/namespace"
	"github.com/berth-cri/berth/linux/probe"
)

const hostRoot = 100000 // of the tests' user namespaces

// userPod pins a user namespace with the network, ipc and uts namespaces that it
// owns.
func userPod(t testing.TB) map[namespace.Kind]string {
	t.Helper()
	if f := probe.OverlayAt(t.TempDir()).IDMapped; !f.OK {
		t.Skip("no layers under other ids here: " + f.Why)
	}
	dir := t.TempDir()
	if err := unix.Mount("pins", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	ids := namespace.Range{Host: hostRoot, Length: 65536}
	pins, err := namespace.PinUser(dir+"/ns", namespace.Mapping{UIDs: ids, GIDs: ids},
		[]namespace.Kind{namespace.Net, namespace.IPC, namespace.UTS}, func() error { return namespace.SetHostname("box") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { namespace.Unpin(dir + "/ns") })
	return pins
}

// userSpec makes the spec one of a container in the pod.
func userSpec(s *specs.Spec, pins map[namespace.Kind]string) *specs.Spec {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: hostRoot, Size: 65536}}
	s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
	s.Hostname = ""
	s.Linux.Namespaces = []specs.LinuxNamespace{
		{Type: specs.UserNamespace, Path: pins[namespace.User]},
		{Type: specs.MountNamespace}, {Type: specs.PIDNamespace},
		{Type: specs.IPCNamespace, Path: pins[namespace.IPC]},
		{Type: specs.UTSNamespace, Path: pins[namespace.UTS]},
		{Type: specs.NetworkNamespace, Path: pins[namespace.Net]},
	}
	if host, _ := hostCgroups(); host.unified {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return s
}

func ownUpper(t testing.TB, o Overlay) Overlay {
	t.Helper()
	if err := os.Chown(o.Upper, hostRoot, hostRoot); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestContainerInUserNamespaceSees(t *testing.T) {
	pins := userPod(t)
	mapped := func(m specs.Mount, s *specs.Spec) specs.Mount {
		m.UIDMappings, m.GIDMappings = s.Linux.UIDMappings, s.Linux.GIDMappings
		return m
	}
	volume := func(dir string) {
		os.WriteFile(filepath.Join(dir, "root"), []byte("root's\n"), 0o600)
		os.WriteFile(filepath.Join(dir, "user"), []byte("user's\n"), 0o600)
		os.Chown(filepath.Join(dir, "user"), 1000, 1000)
	}
	admin := func(s *specs.Spec, _ string) {
		all := append([]string{"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_RESOURCE"}, defaultCapabilities...)
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	}
	for name, tc := range map[string]situation{
		"the mapping":              {nil, "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '", " 0 100000 65536\n 0 100000 65536\n"},
		"itself as root":           {nil, "id -u; id -g; grep Groups /proc/self/status", "0\n0\nGroups:\t *\n"},
		"its user and groups":      {user(1000, 2000, 3000), "id -u; id -g; grep Groups /proc/self/status; touch /tmp/f; stat -c '%u %g' /tmp/f", "1000\n2000\nGroups:\t3000 *\n1000 2000\n"},
		"process 1":                {nil, "echo $$", "1\n"},
		"the image as root's":      {nil, "stat -c '%u %g' / /bin/busybox /tmp", "0 0\n0 0\n0 0\n"},
		"a root that it can write": {nil, "echo x > /f && mkdir /d && chown 5:6 /d && stat -c '%u %g' /f /d && rm -r /f /d /bin/awk && echo ok", "0 0\n5 6\nok\n"},
		"its file systems":         {nil, "awk '{print $5, $(NF-2)}' /proc/self/mountinfo | grep -v cgroup | sort -u | grep -v -E '^/(proc|sys)/'", "/ overlay\n/dev tmpfs\n/dev/mqueue mqueue\n/dev/pts devpts\n/dev/shm tmpfs\n/proc proc\n/sys sysfs\n"},
		"its devices":              {nil, "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a %u' /dev/$d; done; echo x > /dev/null && head -c 3 /dev/zero | wc -c", "/dev/null 1:3 666 0\n/dev/zero 1:5 666 0\n/dev/full 1:7 666 0\n/dev/random 1:8 666 0\n/dev/urandom 1:9 666 0\n/dev/tty 5:0 666 0\n3\n"},
		"no devices of its making": {admin, "mknod /x b 8 0 || mknod /dev/x c 1 3 || echo no", "no\n"},
		"none of the image's":      {func(s *specs.Spec, dir string) {}, "cat /etc/null || echo no", "no\n"},
		"a device with its owner":  {withDevice(specs.LinuxDevice{Path: "/dev/deep/fuse", Type: "c", Major: 10, Minor: 229, FileMode: ptr(os.FileMode(0o640)), UID: ptr(uint32(5)), GID: ptr(uint32(6))}), "stat -c '%F %t:%T %a %u:%g' /dev/deep/fuse", "character special file a:e5 640 5:6\n"},
		"what is hidden":           {nil, "wc -c < /proc/keys; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/sysrq || echo no", "0\n0\nno\n"},
		"its cgroups":              {nil, "ls -d /sys/fs/cgroup; touch /sys/fs/cgroup/x || echo no", "/sys/fs/cgroup\nno\n"},
		"its capabilities":         {nil, "grep CapEff /proc/self/status", "CapEff:\t00000000a80425fb\n"},
		"powers of its own":        {admin, "mount -t tmpfs none /tmp && umount /tmp && hostname box && hostname && ip link set lo up && echo ok", "box\nok\n"},
		"no power over the host":   {admin, "echo 1 > /proc/sys/vm/drop_caches || echo no; dmesg > /dev/null || echo no", "no\nno\n"},
		"a higher limit": {func(s *specs.Spec, _ string) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}}
		}, "ulimit -Sn; ulimit -Hn", "100\n200\n"},
		"a volume under its ids": {func(s *specs.Spec, dir string) {
			volume(dir)
			s.Mounts = append(s.Mounts, mapped(bind(dir, "/v", "rbind", "rprivate"), s))
		}, "stat -c '%u %g' /v/root /v/user; cat /v/root && touch /v/new && chown 7 /v/new && stat -c %u /v/new", "0 0\n1000 1000\nroot's\n7\n"},
		"a read-only volume under its ids": {func(s *specs.Spec, dir string) {
			volume(dir)
			s.Mounts = append(s.Mounts, mapped(bind(dir, "/v", "rbind", "rprivate", "rro", "noexec"), s))
		}, "cat /v/user; touch /v/new || echo no; awk '$5==\"/v\"{print $6}' /proc/self/mountinfo", "user's\nno\nro,noexec,relatime,idmapped\n"},
		"a volume under the host's ids": {func(s *specs.Spec, dir string) {
			volume(dir)
			os.Chmod(dir, 0o755)
			s.Mounts = append(s.Mounts, bind(dir, "/v", "rbind", "rprivate"))
		}, "stat -c '%u %g' /v/root; cat /v/root || touch /v/new || echo no", "65534 65534\nno\n"},
		"a volume that only root of the host reaches": {func(s *specs.Spec, dir string) {
			os.Mkdir(dir+"/closed", 0o700)
			os.Mkdir(dir+"/closed/open", 0o755)
			os.WriteFile(dir+"/closed/open/f", []byte("f\n"), 0o644)
			s.Mounts = append(s.Mounts, bind(dir+"/closed/open", "/v", "bind"))
		}, "cat /v/f", "f\n"},
		"an image volume": {func(s *specs.Spec, dir string) {
			os.MkdirAll(dir+"/a/etc", 0o755)
			os.MkdirAll(dir+"/b/etc", 0o755)
			os.WriteFile(dir+"/a/etc/f", []byte("f\n"), 0o600)
			s.Mounts = append(s.Mounts,
				specs.Mount{Destination: "/i", Type: "overlay", Options: []string{"ro", "lowerdir=" + dir + "/a:" + dir + "/b"}},
				specs.Mount{Destination: "/p", Type: "overlay", Options: []string{"ro", "lowerdir=" + dir + "/a:" + dir + "/b", subdirOption + "etc/f"}},
				specs.Mount{Destination: "/one", Type: "bind", Source: dir + "/a", Options: []string{"bind", "ro", subdirOption + "etc"}},
				mapped(specs.Mount{Destination: "/self", Type: "bind", Source: imageDir, Options: []string{"bind", "ro"}}, s))
		}, "cat /i/etc/f /p /one/f; stat -c %u /i/etc/f /one/f /self/bin/busybox; touch /i/x || echo no", "f\nf\nf\n0\n0\n0\nno\n"},
		"more mounts than one message carries": {func(s *specs.Spec, dir string) {
			for n := range 150 {
				s.Mounts = append(s.Mounts, bind(dir, fmt.Sprint("/many/", n), "bind"))
			}
		}, "grep -c ' /many/' /proc/self/mountinfo; ls /many | wc -l", "150\n150\n"},
		"no host mount":        {nil, "grep -c -E ' (/run|/tmp|/var|/dev/hugepages) ' /proc/self/mountinfo", "0\n"},
		"no descriptors":       {nil, "ls /proc/self/fd | wc -l", "4\n"},
		"its own hostname":     {nil, "hostname", "box\n"},
		"an oom score":         {func(s *specs.Spec, _ string) { s.Process.OOMScoreAdj = ptr(777) }, "cat /proc/self/oom_score_adj", "777\n"},
		"a working directory":  {func(s *specs.Spec, _ string) { s.Process.Cwd = "/srv/a" }, "pwd; stat -c %u .", "/srv/a\n0\n"},
		"a private directory":  {func(s *specs.Spec, _ string) { s.Process.User.UID = 1000; s.Process.Cwd = "/home/user" }, "pwd", "/home/user\n"},
		"a read-only root":     {func(s *specs.Spec, _ string) { s.Root = &specs.Root{Readonly: true} }, "touch /x || echo no; touch /dev/shm/x && echo ok", "no\nok\n"},
		"standard streams":     {nil, "echo x > /dev/stdout; echo y > /dev/stderr; echo z > /proc/self/fd/1", "x\nz\n"},
		"streams of its user":  {user(1000, 1000), "echo x > /dev/stdout", "x\n"},
		"its session keyring":  {func(s *specs.Spec, _ string) { s.Process.User.UID = 1000; s.Linux.MaskedPaths = nil }, "grep -c 'keyring  *_ses: ' /proc/keys", "1\n"},
		"sysfs of its network": {nil, "ls /sys/class/net", "lo\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := userSpec(script(tc.script), pins)
			if tc.edit != nil {
				tc.edit(s, dir)
			}
			o := ownUpper(t, overlayOf(t))
			if strings.HasPrefix(name, "none of the image's") {
				layer := t.TempDir()
				os.Mkdir(layer+"/etc", 0o755)
				unix.Mknod(layer+"/etc/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
				o.Lower = append([]string{layer}, o.Lower...)
			}
			p, err := Compile(s, o)
			r := run(t, p, err)
			if !fullMatch(tc.want, r.stdout) {
				t.Errorf("got %q, want %q; stderr %q, status %#x", r.stdout, tc.want, r.stderr, r.status)
			}
		})
	}
	if b, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(b), "idmapped") {
		t.Error("a mount is left on the host")
	}
}

// What a container writes belongs to its ids on the host's disk.
func TestUpperInUserNamespace(t *testing.T) {
	pins := userPod(t)
	o := ownUpper(t, overlayOf(t))
	p, err := Compile(userSpec(script("touch /new; chown 1000:1001 /new; echo more >> /etc/changed"), pins), withFile(t, o, "etc/changed"))
	if r := run(t, p, err); r.status != 0 {
		t.Fatalf("%#x %s", r.status, r.stderr)
	}
	for name, want := range map[string][2]uint32{"new": {hostRoot + 1000, hostRoot + 1001}, "etc/changed": {hostRoot, hostRoot}} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(o.Upper, name), &st); err != nil || st.Uid != want[0] || st.Gid != want[1] {
			t.Errorf("%s: %d:%d, want %v, %v", name, st.Uid, st.Gid, want, err)
		}
	}
}

func withFile(t *testing.T, o Overlay, name string) Overlay {
	t.Helper()
	layer := t.TempDir()
	if err := os.MkdirAll(filepath.Join(layer, filepath.Dir(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(layer, name), []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	o.Lower = append([]string{layer}, o.Lower...)
	return o
}

func TestExecInUserNamespace(t *testing.T) {
	pins := userPod(t)
	s := userSpec(script("echo in > /marker; sleep 1000"), pins)
	target := background(t, s, ownUpper(t, overlayOf(t)))
	for name, tc := range map[string]struct {
		edit         func(*specs.Process)
		script, want string
	}{
		"root":        {nil, "id -u; cat /marker; tr -s ' ' < /proc/self/uid_map; hostname", "0\nin\n 0 100000 65536\nbox\n"},
		"a user":      {func(p *specs.Process) { p.User.UID, p.User.GID, p.User.AdditionalGids = 1000, 1000, []uint32{7} }, "id -u; id -g; grep Groups /proc/self/status; echo x > /dev/stdout", "1000\n1000\nGroups:\t7 *\nx\n"},
		"namespaces":  {nil, "for n in user mnt pid net ipc uts cgroup; do [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n; done; ps | grep -c '[s]leep 1000$'", "1\n"},
		"no way out":  {nil, "ls /proc/self/fd | wc -l; ls / | grep -c marker", "4\n1\n"},
		"caps":        {func(p *specs.Process) { p.Capabilities = &specs.LinuxCapabilities{} }, "grep CapEff /proc/self/status", "CapEff:\t0+\n"},
		"its streams": {nil, "echo x > /proc/self/fd/1", "x\n"},
	} {
		t.Run(name, func(t *testing.T) {
			p := *s.Process
			p.Args = []string{"sh", "-c", tc.script}
			if tc.edit != nil {
				tc.edit(&p)
			}
			prepared, err := CompileExec(s, &p)
			r := run(t, prepared, err, func(st *Start) { st.TargetPidfd = target.Pidfd })
			if !fullMatch(tc.want, r.stdout) {
				t.Errorf("got %q, want %q; stderr %q", r.stdout, tc.want, r.stderr)
			}
		})
	}
	t.Run("a terminal", func(t *testing.T) {
		p := *s.Process
		p.Args, p.Terminal = []string{"sh", "-c", "tty; stat -c %u $(tty)"}, true
		p.User.UID = 1000
		prepared, err := CompileExec(s, &p)
		out, _ := onTerminal(t, prepared, err, "", func(st *Start) { st.TargetPidfd = target.Pidfd })
		if out != "/dev/pts/0\n1000\n" {
			t.Errorf("got %q", out)
		}
	})
}

func TestReaperInUserNamespace(t *testing.T) {
	pins := userPod(t)
	var join []Namespace
	for kind, at := range map[specs.LinuxNamespaceType]namespace.Kind{specs.UserNamespace: namespace.User, specs.NetworkNamespace: namespace.Net, specs.IPCNamespace: namespace.IPC} {
		join = append(join, Namespace{Type: kind, Path: pins[at]})
	}
	p, err := CompileReaper(join, Nobody, "", "")
	if err != nil {
		t.Fatal(err)
	}
	start := Start{Prepared: p, Plan: planFile(t, p)}
	defer start.Plan.Close()
	reaper, err := launcher.Start(t.Context(), start)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		linux.PidfdSignal(reaper.Pidfd, unix.SIGKILL)
		wait(t, reaper)
		reaper.Pidfd.Close()
	}()
	ns := fmt.Sprintf("/proc/%d/ns/", reaper.Pid)
	if same, err := namespace.Same(ns+"user", pins[namespace.User]); err != nil || !same {
		t.Errorf("another user namespace: %v", err)
	}
	// A container that shares its processes.
	s := userSpec(script("echo $$; ps | wc -l; tr -s ' ' < /proc/1/uid_map"), pins)
	s.Linux.Namespaces[2].Path = ns + "pid"
	prepared, err := Compile(s, ownUpper(t, overlayOf(t)))
	r := run(t, prepared, err)
	if !fullMatch("[0-9]+\n[0-9]+\n 0 100000 65536\n", r.stdout) || strings.HasPrefix(r.stdout, "1\n") {
		t.Errorf("got %q, %s", r.stdout, r.stderr)
	}
}

func TestUserNamespaceThatFails(t *testing.T) {
	pins := userPod(t)
	ids := func(size uint32) []specs.LinuxIDMapping {
		return []specs.LinuxIDMapping{{HostID: hostRoot, Size: size}}
	}
	for name, tc := range map[string]struct {
		edit func(*specs.Spec)
		kind error
		want string
	}{
		"a mapping without a namespace": {func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] }, errdefs.ErrInvalidArgument, "need a user namespace"},
		"several mappings":              {func(s *specs.Spec) { s.Linux.UIDMappings = append(ids(1), ids(1)...) }, errdefs.ErrNotImplemented, "uidMappings: other than one mapping"},
		"no mapping":                    {func(s *specs.Spec) { s.Linux.GIDMappings = nil }, errdefs.ErrNotImplemented, "gidMappings: other than one mapping"},
		"a user that is not mapped":     {func(s *specs.Spec) { s.Process.User.UID = 70000 }, errdefs.ErrInvalidArgument, "process.user"},
		"a device that is not mapped": {func(s *specs.Spec) {
			withDevice(specs.LinuxDevice{Path: "/dev/x", Type: "c", GID: ptr(uint32(70000))})(s, "")
		}, errdefs.ErrInvalidArgument, "device /dev/x"},
		"a shared mount": {func(s *specs.Spec) { s.Mounts = append(s.Mounts, bind("/tmp", "/t", "rbind", "rshared")) }, errdefs.ErrInvalidArgument, "propagation"},
		"a shared root":  {func(s *specs.Spec) { s.Linux.RootfsPropagation = "rshared" }, errdefs.ErrInvalidArgument, "rootfsPropagation"},
		"a mount of other ids": {func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/t", Type: "bind", Source: "/tmp", Options: []string{"bind"}, UIDMappings: ids(5), GIDMappings: ids(5)})
		}, errdefs.ErrNotImplemented, "other than the container's"},
		"a file system that cannot": {func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/t", Type: "bind", Source: "/proc/sys", Options: []string{"bind"}, UIDMappings: ids(65536), GIDMappings: ids(65536)})
		}, errdefs.ErrNotImplemented, "mount /t: its file system cannot be shown under other ids"},
		"a source that is not there":    {func(s *specs.Spec) { s.Mounts = append(s.Mounts, bind("/no/such", "/t", "bind")) }, errdefs.ErrNotFound, "mount /t: source /no/such does not exist"},
		"a namespace that is not there": {func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/no/such" }, errdefs.ErrNotFound, "user namespace"},
		"a namespace of another kind":   {func(s *specs.Spec) { s.Linux.Namespaces[0].Path = pins[namespace.UTS] }, errdefs.ErrInvalidArgument, "join the user namespace"},
		"a program that is not there":   {func(s *specs.Spec) { s.Process.Args = []string{"nothing"} }, errdefs.ErrNotFound, "executable file not found"},
		"a layer that is not there":     {nil, errdefs.ErrNotFound, "/no/layer does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			s := userSpec(script("true"), pins)
			o := ownUpper(t, overlayOf(t))
			if tc.edit != nil {
				tc.edit(s)
			} else {
				o.Lower = append(o.Lower, "/no/layer")
			}
			p, err := Compile(s, o)
			_, err = try(t, p, err)
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a child is left: %v", err)
	}
}

func BenchmarkStartContainerInUserNamespace(b *testing.B) {
	pins := userPod(b)
	placement, _ := testCgroup(b)
	spec, o := userSpec(specOf("true"), pins), ownUpper(b, overlayOf(b))
	p, err := Compile(spec, o)
	if err != nil {
		b.Fatal(err)
	}
	measure(b, func() Start {
		steps := ownUpper(b, freshUpper(b, o))
		p.Plan = withUpper(b, p, steps)
		return Start{Prepared: p, Plan: planFile(b, p), Cgroup: placement}
	})
}
