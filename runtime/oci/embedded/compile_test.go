package embedded

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// Every field of a spec has a decision. A new version of the runtime-spec that
// adds one fails here.
var decisions = map[string]string{
	"Version": "ignored: specs of every 1.x are read alike", "Annotations": "ignored", "Root": "honoured", "Hostname": "honoured",
	"Domainname": "honoured", "Process": "honoured", "Mounts": "honoured", "Linux": "honoured",
	"Hooks": "honoured", "Solaris": "refused", "Windows": "refused", "VM": "refused", "ZOS": "refused", "FreeBSD": "refused",

	"Process.Terminal": "honoured", "Process.ConsoleSize": "honoured", "Process.User": "honoured", "Process.Args": "honoured",
	"Process.CommandLine": "refused", "Process.Env": "honoured", "Process.Cwd": "honoured", "Process.Capabilities": "honoured",
	"Process.Rlimits": "honoured", "Process.NoNewPrivileges": "honoured", "Process.ApparmorProfile": "refused without AppArmor",
	"Process.OOMScoreAdj": "honoured", "Process.Scheduler": "honoured", "Process.SelinuxLabel": "refused without SELinux",
	"Process.IOPriority": "honoured", "Process.ExecCPUAffinity": "refused",

	"User.UID": "honoured", "User.GID": "honoured", "User.Umask": "honoured", "User.AdditionalGids": "honoured",
	"User.Username": "ignored: informational",

	"Linux.UIDMappings": "honoured", "Linux.GIDMappings": "honoured", "Linux.Sysctl": "honoured",
	"Linux.Resources": "ignored: runtime/cgroup", "Linux.CgroupsPath": "ignored: runtime/cgroup", "Linux.Namespaces": "honoured",
	"Linux.Devices": "honoured", "Linux.NetDevices": "refused", "Linux.Seccomp": "honoured", "Linux.RootfsPropagation": "honoured",
	"Linux.MaskedPaths": "honoured", "Linux.ReadonlyPaths": "honoured", "Linux.MountLabel": "honoured",
	"Linux.IntelRdt": "refused", "Linux.MemoryPolicy": "refused", "Linux.Personality": "honoured", "Linux.TimeOffsets": "refused",

	"Mount.Destination": "honoured", "Mount.Type": "honoured", "Mount.Source": "honoured", "Mount.Options": "honoured",
	"Mount.UIDMappings": "refused without a user namespace", "Mount.GIDMappings": "refused without a user namespace",
}

func TestEveryFieldHasADecision(t *testing.T) {
	for prefix, part := range map[string]any{
		"": specs.Spec{}, "Process.": specs.Process{}, "User.": specs.User{}, "Linux.": specs.Linux{}, "Mount.": specs.Mount{},
	} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(part)) {
			decision := decisions[prefix+f.Name]
			if decision == "" {
				t.Errorf("no decision about %s%s", prefix, f.Name)
			}
			if decision != "refused" && !strings.HasPrefix(decision, "refused without") {
				continue
			}
			if strings.Contains(decision, "AppArmor") && hasAppArmor() || strings.Contains(decision, "SELinux") && hasSELinux() {
				continue
			}
			s := specOf("true")
			s.Mounts = append(s.Mounts, bind("/a", "/b", "bind"))
			within := map[string]any{"": s, "Process.": s.Process, "User.": &s.Process.User, "Linux.": s.Linux, "Mount.": &s.Mounts[len(s.Mounts)-1]}[prefix]
			set(reflect.ValueOf(within).Elem().FieldByIndex(f.Index))
			_, err := Compile(s, Overlay{Lower: []string{"/l"}, Upper: "/u", Work: "/w"})
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !errors.Is(err, errdefs.ErrNotImplemented) || prefix != "Mount." && !strings.Contains(err.Error(), name) {
				t.Errorf("%s%s is set: %v", prefix, f.Name, err)
			}
		}
	}
}

// set gives a field, with all that it has, a value that is not its zero.
func set(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		set(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("x").Convert(v.Type().Key()), reflect.Zero(v.Type().Elem()))
	case reflect.String:
		v.SetString("x")
	case reflect.Struct:
		for i := range v.NumField() {
			set(v.Field(i))
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	mount := func(m specs.Mount) func(*specs.Spec) { return func(s *specs.Spec) { s.Mounts = append(s.Mounts, m) } }
	caps := func(name string) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Process.Capabilities.Effective = []string{name} }
	}
	limit := func(r ...specs.POSIXRlimit) func(*specs.Spec) { return func(s *specs.Spec) { s.Process.Rlimits = r } }
	sysctl := func(key string) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{key: "1"} }
	}
	device := func(d specs.LinuxDevice) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{d} }
	}
	for name, tc := range map[string]struct {
		edit func(*specs.Spec)
		want string
	}{
		"no process":                  {func(s *specs.Spec) { s.Process = nil }, "process is missing"},
		"no linux":                    {func(s *specs.Spec) { s.Linux = nil }, "linux is missing"},
		"no arguments":                {func(s *specs.Spec) { s.Process.Args = nil }, "process.args is empty"},
		"a relative directory":        {func(s *specs.Spec) { s.Process.Cwd = "x" }, "process.cwd is not an absolute path"},
		"a NUL":                       {func(s *specs.Spec) { s.Process.Env = []string{"A=\x00"} }, "NUL byte in step exec"},
		"an unknown capability":       {caps("CAP_FROB"), "CAP_FROB, which is not known"},
		"an unknown limit":            {limit(specs.POSIXRlimit{Type: "RLIMIT_FROB"}), "RLIMIT_FROB, which is not known"},
		"a limit twice":               {limit(specs.POSIXRlimit{Type: "RLIMIT_CORE"}, specs.POSIXRlimit{Type: "RLIMIT_CORE"}), "RLIMIT_CORE twice"},
		"a soft limit above the hard": {limit(specs.POSIXRlimit{Type: "RLIMIT_CORE", Soft: 2, Hard: 1}), "above the hard one"},
		"a strange umask":             {func(s *specs.Spec) { s.Process.User.Umask = ptr(uint32(0o1000)) }, "umask is 1000"},
		"an oom score out of range":   {func(s *specs.Spec) { s.Process.OOMScoreAdj = ptr(-1001) }, "oomScoreAdj is -1001"},
		"a console out of range":      {func(s *specs.Spec) { s.Process.Terminal = true; s.Process.ConsoleSize = &specs.Box{Height: 1 << 16} }, "consoleSize is too large"},
		"a user namespace": {func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		}, "a user namespace without a path is not supported"},
		"a time namespace": {func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		}, "type time is not supported"},
		"a namespace twice":            {func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces, s.Linux.Namespaces[0]) }, "type mount twice"},
		"the host's mount namespace":   {func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] }, "without a mount namespace"},
		"a mount namespace to join":    {func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/x" }, "a mount namespace with a path"},
		"a host name of the host":      {func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[:3] }, "needs a uts namespace"},
		"an unknown propagation":       {func(s *specs.Spec) { s.Linux.RootfsPropagation = "frob" }, "rootfsPropagation is frob"},
		"a mount at the root":          {mount(bind("/a", "/x/..", "bind")), "destination is the root"},
		"a mount in proc":              {mount(bind("/a", "/proc/self/attr", "bind")), "destination is in /proc"},
		"a mount in proc by way of ..": {mount(bind("/a", "/x/../proc//sys", "bind")), "destination is in /proc"},
		"a relative source":            {mount(bind("a", "/b", "bind")), "source is not an absolute path"},
		"no type":                      {mount(specs.Mount{Destination: "/x"}), "type is missing"},
		"an unknown option of a bind":  {mount(bind("/a", "/b", "bind", "frob")), "option frob is not known for a bind mount"},
		"a file system's option":       {mount(bind("/a", "/b", "bind", "sync")), "option sync is of a file system"},
		"an option that is not there":  {mount(bind("/a", "/b", "bind", "tmpcopyup")), "option tmpcopyup is not supported"},
		"an id-mapped mount":           {mount(bind("/a", "/b", "bind", "idmap")), "id-mapped mount without a user namespace"},
		"a sysctl of the host":         {sysctl("vm.swappiness"), "is not a namespaced sysctl"},
		"the host name as a sysctl":    {sysctl("kernel.hostname"), "is set by hostname"},
		"a sysctl of the host's ipc": {func(s *specs.Spec) {
			sysctl("kernel.shmmax")(s)
			s.Linux.Namespaces = s.Linux.Namespaces[:2]
			s.Hostname = ""
		}, "needs a ipc namespace"},
		"an unknown kind of device":     {device(specs.LinuxDevice{Path: "/dev/x", Type: "z"}), "type z is not known"},
		"a device number out of range":  {device(specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: 1 << 20}), "number is out of range"},
		"an unknown scheduler":          {func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_FROB"} }, "policy is SCHED_FROB"},
		"an unknown io class":           {func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{Class: "FROB"} }, "ioPriority is FROB"},
		"an unknown personality":        {func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "FROB"} }, "unknown domain"},
		"a bad seccomp profile":         {func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: "FROB"} }, "linux.seccomp"},
		"an SELinux label without it":   {func(s *specs.Spec) { s.Process.SelinuxLabel = "x" }, "selinuxLabel is set, but the host has no SELinux"},
		"a v1 option that is not there": {mount(specs.Mount{Destination: "/cg", Type: "cgroup", Options: []string{"nsdelegate"}}), "option nsdelegate"},
	} {
		s := specOf("true")
		tc.edit(s)
		_, err := Compile(s, Overlay{Lower: []string{"/l"}, Upper: "/u", Work: "/w"})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			if host, _ := hostCgroups(); host.unified && strings.HasPrefix(name, "a v1") || hasSELinux() && strings.Contains(name, "SELinux") {
				continue
			}
			t.Errorf("%s: %v", name, err)
		} else if !errors.Is(err, errdefs.ErrInvalidArgument) && !errors.Is(err, errdefs.ErrNotImplemented) {
			t.Errorf("%s: no kind: %v", name, err)
		}
	}
	if _, err := Compile(nil, Overlay{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("no spec: %v", err)
	}
	for _, o := range []Overlay{{}, {Lower: []string{"l"}, Upper: "/u", Work: "/w"}, {Lower: []string{"/l"}}} {
		if _, err := Compile(specOf("true"), o); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, p := range []*specs.Process{nil, {Cwd: "/"}, {Args: []string{"x"}}} {
		if _, err := CompileExec(specOf("true"), p); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("exec of %+v: %v", p, err)
		}
	}
	if _, err := CompileExec(&specs.Spec{}, &specs.Process{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("exec without a container: %v", err)
	}
}

// TestMountLabel looks at the plan: few machines have SELinux.
func TestMountLabel(t *testing.T) {
	const label = "system_u:object_r:container_file_t:s0:c1,c2"
	s := specOf("true")
	s.Linux.MountLabel = label
	s.Linux.MaskedPaths = []string{"/masked"}
	s.Mounts = nil
	for _, kind := range []string{"proc", "sysfs", "tmpfs", "devpts", "mqueue"} {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/" + kind, Type: kind, Source: kind})
	}
	p, err := Compile(s, Overlay{Lower: []string{"/l"}, Upper: "/u", Work: "/w"})
	if err != nil {
		t.Fatal(err)
	}
	steps, err := plan.Decode(p.Plan)
	if err != nil {
		t.Fatal(err)
	}
	const whole, own = "the file system", "the directory"
	want := map[string]string{"root": whole, "masked": whole, "tmpfs": whole, "devpts": whole, "mqueue": own}
	got := map[string]string{}
	note := func(name string, options []string, directory string) {
		if slices.Contains(options, "context="+label) {
			got[name] += whole
		}
		if directory == label {
			got[name] += own
		}
	}
	for _, step := range steps {
		switch s := step.(type) {
		case *plan.RootOverlay:
			note("root", s.Options, "")
		case *plan.MaskedPath:
			note("masked", s.Options, "")
		case *plan.Mount:
			note(s.Type, s.Options, s.Label)
		}
	}
	reaper, err := CompileReaper(nil, Nobody, "", label)
	if err != nil {
		t.Fatal(err)
	}
	if steps, err = plan.Decode(reaper.Plan); err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		if s, ok := step.(*plan.RootTmpfs); ok {
			note("reaper", s.Options, "")
		}
	}
	want["reaper"] = whole
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// What must not come before what: see process.
func TestOrderOfSteps(t *testing.T) {
	s := specOf("true")
	s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}}
	s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	s.Root = &specs.Root{Readonly: true}
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir"}, Action: specs.ActErrno}}}
	for _, tc := range []struct {
		nnp   bool
		order []string
	}{
		{true, []string{
			"session keyring", "mount propagation", "mount the root file system", "sysctl net/ipv4/ip_forward", "cgroup namespace",
			"mount /proc", "mount /dev", "device /dev/null", "symlink /dev/fd", "directory /", "read-only path /proc/sys",
			"masked path /proc/keys", "read-only mount /", "pivot root", "session", "no new privileges", "rlimit RLIMIT_CORE",
			"capabilities", "working directory /", "user", "capabilities", "umask", "exec", "seccomp", "exec",
		}},
		{false, []string{"pivot root", "session", "seccomp", "rlimit RLIMIT_CORE", "capabilities", "user", "capabilities", "exec", "exec"}},
	} {
		s.Process.NoNewPrivileges = tc.nnp
		p, err := Compile(s, Overlay{Lower: []string{"/l"}, Upper: "/u", Work: "/w"})
		if err != nil {
			t.Fatal(err)
		}
		steps, err := plan.Decode(p.Plan)
		if err != nil {
			t.Fatal(err)
		}
		left := tc.order
		for _, step := range steps {
			if len(left) > 0 && step.String() == left[0] {
				left = left[1:]
			}
		}
		if len(left) > 0 {
			t.Errorf("%q is not where it should be in %v", left[0], steps)
		}
		if n := slices.IndexFunc(steps, func(s plan.Step) bool { _, ok := s.(*plan.NoNewPrivileges); return ok }); (n >= 0) != tc.nnp {
			t.Errorf("no new privileges: %v", steps)
		}
	}
}

func TestMountOptions(t *testing.T) {
	const prop = unix.MS_PRIVATE
	for text, want := range map[string][]plan.Change{
		"rbind":                          nil,
		"bind,ro":                        {{Set: unix.MOUNT_ATTR_RDONLY}},
		"bind,rw":                        {{Clear: unix.MOUNT_ATTR_RDONLY}},
		"bind,ro,rw":                     {{Clear: unix.MOUNT_ATTR_RDONLY}},
		"bind,rw,ro":                     {{Set: unix.MOUNT_ATTR_RDONLY}},
		"bind,ro,private":                {{Set: unix.MOUNT_ATTR_RDONLY, Propagation: prop}},
		"rbind,rprivate":                 {{Recursive: true, Propagation: prop}},
		"rbind,ro,rprivate":              {{Set: unix.MOUNT_ATTR_RDONLY}, {Recursive: true, Propagation: prop}},
		"rbind,rro":                      {{Recursive: true, Set: unix.MOUNT_ATTR_RDONLY}},
		"rbind,rro,rnosuid,rslave":       {{Recursive: true, Propagation: unix.MS_SLAVE}, {Recursive: true, Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}},
		"bind,noatime":                   {{Set: unix.MOUNT_ATTR_NOATIME, Clear: unix.MOUNT_ATTR__ATIME}},
		"bind,noatime,strictatime":       {{Set: unix.MOUNT_ATTR_STRICTATIME, Clear: unix.MOUNT_ATTR__ATIME}},
		"bind,strictatime,relatime":      {{Clear: unix.MOUNT_ATTR__ATIME}},
		"bind,nosuid,nodev,noexec,async": {{Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}},
		"bind,suid,dev,exec":             {{Clear: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}},
	} {
		o, err := parseOptions(strings.Split(text, ","))
		if err != nil || !o.bind || len(o.data) > 0 {
			t.Errorf("%s: %+v %v", text, o, err)
		}
		if d := cmp.Diff(want, o.changes(true)); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	o, err := parseOptions([]string{"defaults", `context="a:b,c"`, "mode=755", "sync"})
	if err != nil || !slices.Equal(o.data, []string{"context=a:b,c", "mode=755", "sync"}) {
		t.Errorf("%q %v", o.data, err)
	}
}

func TestSysctlPath(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.ip_forward": "net/ipv4/ip_forward", "net/ipv4/conf/eth0.1/rp_filter": "net/ipv4/conf/eth0.1/rp_filter",
		"net.ipv4.conf.eth0/1.rp_filter": "net/ipv4/conf/eth0.1/rp_filter",
	} {
		if got := sysctlPath(key); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
}

func TestLayoutOfCgroupV1(t *testing.T) {
	m := func(point, kind, options, root string) *mountinfo.Info {
		return &mountinfo.Info{Mountpoint: point, FSType: kind, VFSOptions: options, Root: root}
	}
	got := layout([]*mountinfo.Info{
		m("/elsewhere/memory", "cgroup", "rw,memory", "/"),
		m("/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd", "/docker/x"),
		m("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct", "/"),
		m("/sys/fs/cgroup/memory", "cgroup", "rw,memory", "/"),
		m("/sys/fs/cgroup/unified", "cgroup2", "rw,nsdelegate", "/"),
	}, "5:devices:/\n4:memory:/a\n3:cpu,cpuacct:/\n1:name=systemd:/docker/x/y\n0::/\n")
	want := cgroupLayout{
		hierarchies: []plan.Hierarchy{
			{Name: "memory", Mount: "/sys/fs/cgroup/memory", Root: "/", Key: "memory"},
			{Name: "cpu,cpuacct", Mount: "/sys/fs/cgroup/cpu,cpuacct", Root: "/", Key: "cpu,cpuacct"},
			{Name: "systemd", Mount: "/sys/fs/cgroup/systemd", Root: "/docker/x", Key: "name=systemd"},
			{Name: "unified", Mount: "/sys/fs/cgroup/unified", Root: "/", Key: ""},
		},
		links: []plan.Symlink{{Path: "cpu", Target: "cpu,cpuacct"}, {Path: "cpuacct", Target: "cpu,cpuacct"}},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(cgroupLayout{})); d != "" {
		t.Error(d)
	}
}

// What the daemon builds must compile: the specs of its golden files.
func TestSpecsOfTheDaemonCompile(t *testing.T) {
	files, err := os.ReadDir("../../spec/testdata")
	if err != nil {
		t.Skip(err)
	}
	host, err := hostCgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") || strings.Contains(f.Name(), "cgroup-v2") && !host.unified {
			continue // options of cgroup2 mean nothing here
		}
		b, err := os.ReadFile("../../spec/testdata/" + f.Name())
		var s specs.Spec
		if err == nil {
			err = json.Unmarshal(b, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Compile(&s, Overlay{Lower: []string{"/l"}, Upper: "/u", Work: "/w"}); err != nil {
			t.Errorf("%s: %v", f.Name(), err)
		}
	}
}
