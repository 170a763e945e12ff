package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A situation is a container and what its program sees. The program's output has
// to match the expression as a whole; "%s" in a spec's source is a directory of
// the test.
type situation struct {
	edit   func(s *specs.Spec, dir string)
	script string
	want   string
}

func ptr[T any](v T) *T { return &v }

func program(args ...string) func(*specs.Spec, string) {
	return func(s *specs.Spec, _ string) { s.Process.Args = args }
}

func bind(source, target string, options ...string) specs.Mount {
	return specs.Mount{Source: source, Destination: target, Type: "bind", Options: options}
}

func user(uid, gid uint32, groups ...uint32) func(*specs.Spec, string) {
	return func(s *specs.Spec, _ string) {
		s.Process.User = specs.User{UID: uid, GID: gid, AdditionalGids: groups}
	}
}

func TestContainerSees(t *testing.T) {
	for name, tc := range map[string]situation{
		"its exit code and output": {nil, "echo out; echo err >&2; exit 7", "out\n"},
		"its host name":            {nil, "hostname", "box\n"},
		"its arguments and environment": {func(s *specs.Spec, _ string) {
			s.Process.Args = []string{"env"}
			s.Process.Env = []string{"PATH=/bin", "A=1 2", "B=", "A=3"}
		}, "", "PATH=/bin\nA=1 2\nB=\nA=3\n"},
		"itself as process 1 of its own, leading a session": {nil, "echo $$; awk '/NSsid|NSpgid/{print $2}' /proc/self/status", "1\n1\n1\n"},
		"only three descriptors":                            {nil, "ls /proc/1/fd; true", "0\n1\n2\n"},
		"no signal ignored or blocked":                      {program("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"), "", "SigBlk:\t0+\nSigIgn:\t0+\n"},
		"loopback up in a new network namespace":            {nil, "ifconfig lo | grep -o 'UP LOOPBACK'", "UP LOOPBACK\n"},
		"the spec's umask": {func(s *specs.Spec, _ string) { s.Process.User.Umask = ptr(uint32(0o077)) },
			"touch /tmp/f; stat -c %a /tmp/f", "600\n"},
		"umask 022 when the spec has none": {nil, "touch /tmp/f; stat -c %a /tmp/f", "644\n"},
		"its user and groups":              {user(1000, 2000, 3000, 4000), "id -u; id -g; grep Groups /proc/self/status", "1000\n2000\nGroups:\t3000 4000 \n"},
		"no groups of the monitor":         {nil, "grep Groups /proc/self/status", "Groups:\t *\n"},
		"root's capabilities":              {nil, "grep Cap /proc/self/status", "CapInh:\t0+\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0+\n"},
		"a user without capabilities":      {user(1000, 1000), "grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status", "CapPrm:\t0+\nCapEff:\t0+\nCapAmb:\t0+\n"},
		"a user with ambient capabilities": {func(s *specs.Spec, _ string) {
			net := []string{"CAP_NET_BIND_SERVICE"}
			s.Process.User.UID = 1000
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: net, Effective: net, Permitted: net, Inheritable: net, Ambient: net}
		}, "grep Cap /proc/self/status", "CapInh:\t0+400\nCapPrm:\t0+400\nCapEff:\t0+400\nCapBnd:\t0+400\nCapAmb:\t0+400\n"},
		"no capabilities at all": {func(s *specs.Spec, _ string) { s.Process.Capabilities = nil },
			"grep Cap /proc/self/status", "CapInh:\t0+\nCapPrm:\t0+\nCapEff:\t0+\nCapBnd:\t0+\nCapAmb:\t0+\n"},
		"no new privileges": {nil, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"},
		"new privileges":    {func(s *specs.Spec, _ string) { s.Process.NoNewPrivileges = false }, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t0\n"},
		"its resource limits": {func(s *specs.Spec, _ string) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE"}}
		}, "ulimit -Sn; ulimit -Hn; ulimit -c", "100\n200\n0\n"},
		"its nice value": {func(s *specs.Spec, _ string) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7}
		}, "cut -d' ' -f19,41 /proc/self/stat", "7 3\n"},
		"its io priority": {func(s *specs.Spec, _ string) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		}, "ionice", "best-effort: prio 6\n"},
		"a 32 bit personality": {func(s *specs.Spec, _ string) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32} }, "cat /proc/self/personality 2>/dev/null || uname -m", "0*8\n|i686\n|armv8l\n"},
		"a working directory":  {func(s *specs.Spec, _ string) { s.Process.Cwd = "/home/user" }, "pwd", "/home/user\n"},
		"one that was missing": {func(s *specs.Spec, _ string) { s.Process.Cwd = "/srv/a/b" }, "pwd; stat -c '%a %u' .", "/srv/a/b\n755 0\n"},
		"sysctls of its own": {func(s *specs.Spec, _ string) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.msgmax": "4000"}
		}, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", "1\n4000\n"},
		"a domain name":                         {func(s *specs.Spec, _ string) { s.Domainname = "example.org" }, "cat /proc/sys/kernel/domainname", "example.org\n"},
		"its own session keyring":               {func(s *specs.Spec, _ string) { s.Process.User.UID = 1000; s.Linux.MaskedPaths = nil }, "grep -c 'keyring  *_ses: ' /proc/keys", "1\n"},
		"no host mount":                         {nil, "grep -c -E ' (/run|/tmp|/var|/dev/hugepages) ' /proc/self/mountinfo", "0\n"},
		"its default devices":                   {nil, "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a' /dev/$d; done", "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n/dev/urandom 1:9 666\n/dev/tty 5:0 666\n"},
		"its default links":                     {nil, "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done", "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n"},
		"devices of the spec":                   {withDevice(specs.LinuxDevice{Path: "/dev/deep/fuse", Type: "c", Major: 10, Minor: 229, FileMode: ptr(os.FileMode(0o640)), UID: ptr(uint32(5)), GID: ptr(uint32(6))}), "stat -c '%F %t:%T %a %u:%g' /dev/deep/fuse", "character special file a:e5 640 5:6\n"},
		"a spec's device in place of a default": {withDevice(specs.LinuxDevice{Path: "/dev/full", Type: "c", Major: 1, Minor: 3}), "stat -c %t:%T /dev/full", "1:3\n"},
		"a block device and a FIFO": {func(s *specs.Spec, _ string) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/blk", Type: "b", Major: 7, Minor: 300}, {Path: "/dev/p", Type: "p"}}
		}, "stat -c '%F %t:%T' /dev/blk; stat -c %F /dev/p", "block special file 7:12c\nfifo\n"},
	} {
		t.Run(name, func(t *testing.T) { check(t, tc) })
	}
}

func withDevice(d specs.LinuxDevice) func(*specs.Spec, string) {
	return func(s *specs.Spec, _ string) { s.Linux.Devices = []specs.LinuxDevice{d} }
}

func check(t *testing.T, tc situation) {
	t.Helper()
	dir := t.TempDir()
	defer unix.Unmount(filepath.Join(dir, "below"), unix.MNT_DETACH) // where a situation has a mount
	s := script(tc.script)
	if tc.edit != nil {
		tc.edit(s, dir)
	}
	p, err := Compile(s, overlayOf(t))
	r := run(t, p, err)
	if !fullMatch(tc.want, r.stdout) {
		t.Errorf("got %q, want %q; stderr %q, status %#x", r.stdout, tc.want, r.stderr, r.status)
	}
}

func TestMountsOfContainer(t *testing.T) {
	volume := func(target string, options ...string) func(*specs.Spec, string) {
		return func(s *specs.Spec, dir string) {
			os.WriteFile(filepath.Join(dir, "f"), []byte("data\n"), 0o644)
			os.Mkdir(filepath.Join(dir, "below"), 0o755)
			s.Mounts = append(s.Mounts, bind(dir, target, options...))
		}
	}
	// nested has a mount below the volume.
	nested := func(target string, options ...string) func(*specs.Spec, string) {
		return func(s *specs.Spec, dir string) {
			volume(target, options...)(s, dir)
			if err := unix.Mount("tmpfs", filepath.Join(dir, "below"), "tmpfs", 0, "size=64k"); err != nil {
				panic(err)
			}
		}
	}
	for name, tc := range map[string]situation{
		"a directory":               {volume("/data", "rbind", "rw"), "cat /data/f; touch /data/x && echo ok", "data\nok\n"},
		"a read-only directory":     {volume("/data", "rbind", "ro"), "cat /data/f; touch /data/x || echo no", "data\nno\n"},
		"flags of a bind mount":     {volume("/data", "bind", "nosuid", "nodev", "noexec", "noatime"), "grep ' /data ' /proc/self/mountinfo | cut -d' ' -f6", "rw,nosuid,nodev,noexec,noatime\n"},
		"a target that is made":     {volume("/a/b/c", "bind"), "cat /a/b/c/f", "data\n"},
		"a target below another":    {volume("/dev/shm/v", "bind"), "cat /dev/shm/v/f", "data\n"},
		"what is below comes along": {nested("/data", "rbind", "ro"), "touch /data/below/x && echo ok", "ok\n"},
		"or not":                    {nested("/data", "bind"), "grep -c ' /data' /proc/self/mountinfo", "1\n"},
		"read-only all the way":     {nested("/data", "rbind", "rro"), "touch /data/below/x || touch /data/x || echo no", "no\n"},
		"private":                   {nested("/data", "rbind", "rprivate"), "grep ' /data' /proc/self/mountinfo | grep -cE 'shared|master'", "0\n"},
		"a single file": {func(s *specs.Spec, dir string) {
			os.WriteFile(dir+"/f", []byte("x"), 0o644)
			s.Mounts = append(s.Mounts, bind(dir+"/f", "/etc/one/file", "bind", "ro"))
		}, "cat /etc/one/file; echo > /etc/one/file || echo no", "xno\n"},
		"a socket": {func(s *specs.Spec, dir string) {
			unix.Mknod(dir+"/s", unix.S_IFSOCK|0o666, 0)
			s.Mounts = append(s.Mounts, bind(dir+"/s", "/run/s", "bind"))
		}, "stat -c %F /run/s", "socket\n"},
		"a tmpfs with its options": {withMount(specs.Mount{Destination: "/scratch", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=64k", "mode=0700", "noexec"}}), "stat -c %a /scratch; awk '/ .scratch /{print $6,$NF}' /proc/self/mountinfo", "700\nrw,noexec,relatime rw,size=64k,mode=700(,inode64)?\n"},
		"a read-only tmpfs":        {withMount(specs.Mount{Destination: "/scratch", Type: "tmpfs", Options: []string{"ro"}}), "touch /scratch/x || echo no", "no\n"},
		"a mount in a read-only tmpfs": {func(s *specs.Spec, dir string) {
			withMount(specs.Mount{Destination: "/scratch", Type: "tmpfs", Options: []string{"ro"}})(s, dir)
			volume("/scratch/in", "bind")(s, dir)
		}, "cat /scratch/in/f; touch /scratch/x || echo no", "data\nno\n"},
		"a read-only root": {func(s *specs.Spec, dir string) {
			s.Root = &specs.Root{Readonly: true}
			s.Process.Cwd = "/new"
			volume("/data", "bind")(s, dir)
		}, "touch /x || echo no; touch /data/x && echo ok; pwd; touch /dev/shm/x && echo ok", "no\nok\n/new\nok\n"},
		"a masked file": {func(s *specs.Spec, dir string) {
			volume("/data", "bind")(s, dir)
			s.Linux.MaskedPaths = []string{"/data/f", "/nothing/here", "/data/f/x"}
		}, "wc -c < /data/f; stat -c %t:%T /data/f", "0\n1:3\n"},
		"masked in proc":          {nil, "wc -c < /proc/keys; ls /sys/firmware | wc -l; ls -d /proc/acpi", "0\n0\n/proc/acpi\n"},
		"masked cannot be filled": {nil, "touch /sys/firmware/x || mkdir /proc/acpi/x || echo no", "no\n"},
		"read-only in proc":       {nil, "echo 1 > /proc/sys/net/ipv4/ip_forward || echo no", "no\n"},
		"unmasked proc":           {func(s *specs.Spec, _ string) { s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil }, "grep -c ' /proc/' /proc/self/mountinfo; cat /proc/keys > /dev/null && echo ok", "0\nok\n"},
		"its own cgroups":         {nil, "cut -d: -f3 /proc/self/cgroup | sort -u; touch /sys/fs/cgroup/memory/x 2>/dev/null || touch /sys/fs/cgroup/x || echo no", "/\nno\n"},
		"its own mqueue and pts":  {nil, "ls /dev/mqueue /dev/pts; ls -l /dev/pts/ptmx | cut -c1-10", "/dev/mqueue:\n\n/dev/pts:\nptmx\ncrw-rw-rw-\n"},
		"proc of lxcfs": {func(s *specs.Spec, dir string) {
			os.WriteFile(dir+"/m", []byte("fake\n"), 0o644)
			s.Mounts = append(s.Mounts, bind(dir+"/m", "/proc/meminfo", "bind"))
		}, "cat /proc/meminfo", "fake\n"},
		"the host's /dev": {func(s *specs.Spec, _ string) {
			s.Mounts = append(s.Mounts[:1:1], bind("/dev", "/dev", "rbind"))
			s.Linux.MaskedPaths = nil
		}, "stat -c %t:%T /dev/null", "1:3\n"},
	} {
		t.Run(name, func(t *testing.T) { check(t, tc) })
	}
}

func withMount(m specs.Mount) func(*specs.Spec, string) {
	return func(s *specs.Spec, _ string) { s.Mounts = append(s.Mounts, m) }
}

// The bidirectional case needs a shared mount of the host.
func TestMountPropagation(t *testing.T) {
	for name, tc := range map[string]struct {
		root, option string
		out, in      bool // is a mount of the one seen by the other
		together     bool // the container's layers are on the volume's mount
	}{
		"none":                             {"", "rprivate", false, false, false},
		"from the host":                    {"rslave", "rslave", false, true, false},
		"both ways":                        {"rshared", "rshared", true, true, false},
		"private in a share":               {"rshared", "rprivate", false, false, false},
		"none, on one mount":               {"", "rprivate", false, false, true},
		"from the host, on one mount":      {"rslave", "rslave", false, true, true},
		"both ways, on one mount":          {"rshared", "rshared", true, true, true},
		"private in a share, on one mount": {"rshared", "rprivate", false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			volume := sharedMount(t)
			o := overlayOf(t)
			if tc.together {
				o.Upper, o.Work = filepath.Join(volume, "layers"), volume
				os.Mkdir(o.Upper, 0o755)
				o = freshUpper(t, o)
				volume = filepath.Join(volume, "volume")
				os.Mkdir(volume, 0o755)
			}
			os.Mkdir(filepath.Join(volume, "in"), 0o755)
			os.Mkdir(filepath.Join(volume, "out"), 0o755)
			s := script("mount -t tmpfs none /volume/out; sleep 1000")
			s.Process.NoNewPrivileges = false
			all := []string{"CAP_SYS_ADMIN"}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
			s.Linux.RootfsPropagation = tc.root
			s.Mounts = append(s.Mounts, bind(volume, "/volume", "rbind", tc.option))
			p := background(t, s, o)
			if err := unix.Mount("tmpfs", filepath.Join(volume, "in"), "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() error { return contains(fmt.Sprintf("/proc/%d/mountinfo", p.Pid), " /volume/out ") })
			if err := contains(fmt.Sprintf("/proc/%d/mountinfo", p.Pid), " /volume/in "); (err == nil) != tc.in {
				t.Errorf("the host's mount in the container: %v", err)
			}
			if err := contains("/proc/self/mountinfo", volume+"/out "); (err == nil) != tc.out {
				t.Errorf("the container's mount on the host: %v", err)
			}
			if err := contains("/proc/self/mountinfo", imageDir); err == nil {
				t.Error("the container's root is mounted on the host")
			}
		})
	}
}

func sharedMount(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

func contains(path, text string) error {
	b, err := os.ReadFile(path)
	if err == nil && !strings.Contains(string(b), text) {
		err = fmt.Errorf("no %q in %s", text, path)
	}
	return err
}

// More layers and longer paths than one page of options or one option takes.
func TestManyAndLongLayers(t *testing.T) {
	deep := t.TempDir()
	for range 3 { // more than 255 bytes
		deep = filepath.Join(deep, strings.Repeat("long", 25)+",:\\")
	}
	var long []string
	for n := range 3 {
		dir := filepath.Join(deep, fmt.Sprint(n))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(dir, "top"), []byte(fmt.Sprint(n)), 0o644)
		os.WriteFile(filepath.Join(dir, fmt.Sprint("file", n)), []byte("x"), 0o644)
		long = append(long, dir)
	}
	var many []string
	base := t.TempDir()
	for n := range 120 {
		dir := filepath.Join(base, strings.Repeat("x", 64), fmt.Sprint(n))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(dir, "top"), []byte(fmt.Sprint(n)), 0o644)
		os.WriteFile(filepath.Join(dir, fmt.Sprint("file", n)), []byte("x"), 0o644)
		many = append(many, dir)
	}
	for name, layers := range map[string][]string{"many": many, "long": long} {
		t.Run(name, func(t *testing.T) {
			o := overlayOf(t, layers...)
			p, err := Compile(script("cat /top; ls / | grep -c file; echo new > /x && cat /x; pwd"), o)
			r := run(t, p, err)
			if want := fmt.Sprintf("0%d\nnew\n/\n", len(layers)); r.stdout != want {
				t.Fatalf("got %q, want %q, %s", r.stdout, want, r.stderr)
			}
			if _, err := os.Stat(filepath.Join(o.Upper, "x")); err != nil {
				t.Error(err)
			}
		})
	}
}
