package spec

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func ids(host, length uint32) []*runtimeapi.IDMapping {
	return []*runtimeapi.IDMapping{{HostId: host, Length: length}}
}

// inUserns puts pod and container into a user namespace.
func inUserns(in *Input) {
	options := &runtimeapi.UserNamespace{Uids: ids(100000, 65536), Gids: ids(200000, 65536)}
	in.Pod.Config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = options
	in.Config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = options
	in.Pod.User = UserMapping(in.Config.Linux.SecurityContext.NamespaceOptions)
	in.Pod.Namespaces[specs.UserNamespace] = "/run/berth/pods/pod1/ns/user"
	in.Node.Host.KernelCapabilities = knownCapabilities
}

// hostNetwork leaves the pod without a network of its own.
func hostNetwork(in *Input) {
	delete(in.Pod.Namespaces, specs.NetworkNamespace)
	delete(in.Pod.Namespaces, specs.UTSNamespace)
	in.Pod.Config.Linux.SecurityContext.NamespaceOptions.Network = modeNode
	in.Config.Linux.SecurityContext.NamespaceOptions.Network = modeNode
}

func TestUserNamespace(t *testing.T) {
	of := func(f func(*runtimeapi.UserNamespace)) func(*Input) {
		return func(in *Input) {
			inUserns(in)
			f(in.Config.Linux.SecurityContext.NamespaceOptions.UsernsOptions)
		}
	}
	container := func(u *runtimeapi.UserNamespace) func(*Input) {
		return func(in *Input) {
			inUserns(in)
			in.Config.Linux.SecurityContext.NamespaceOptions = &nsOptions{Pid: modeContainer, UsernsOptions: u}
		}
	}
	as := func(u User) func(*Input) { return func(in *Input) { in.User = u } }
	bad := errdefs.IsInvalidArgument
	tryEach(t, func(s *specs.Spec) any {
		path := ""
		for _, n := range s.Linux.Namespaces {
			if n.Type == specs.UserNamespace {
				path = n.Path
			}
		}
		return fmt.Sprint(path, s.Linux.UIDMappings, s.Linux.GIDMappings)
	}, map[string]outcome{
		"the host's": {in: on(), want: "[] []"},
		"the pod's":  {in: on(inUserns), want: "/run/berth/pods/pod1/ns/user[{0 100000 65536}] [{0 200000 65536}]"},
		"said to be the host's": {in: on(func(in *Input) {
			in.Config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtimeapi.UserNamespace{Mode: modeNode}
		}), want: "[] []"},
		"not said in a pod that has one":     {in: on(container(nil)), kind: bad, want: "must be the pod's"},
		"of other users than the pod's":      {in: on(container(&runtimeapi.UserNamespace{Uids: ids(5, 65536), Gids: ids(200000, 65536)})), kind: bad, want: "must be the pod's"},
		"of other groups than the pod's":     {in: on(container(&runtimeapi.UserNamespace{Uids: ids(100000, 65536), Gids: ids(200000, 9)})), kind: bad, want: "must be the pod's"},
		"the host's in a pod that has one":   {in: on(container(&runtimeapi.UserNamespace{Mode: modeNode})), kind: bad, want: "must be the pod's"},
		"for one container":                  {in: on(of(func(u *runtimeapi.UserNamespace) { u.Mode = modeContainer })), kind: bad, want: "userns_options.mode"},
		"of a target":                        {in: on(of(func(u *runtimeapi.UserNamespace) { u.Mode = modeTarget })), kind: bad, want: "userns_options.mode"},
		"two mappings":                       {in: on(of(func(u *runtimeapi.UserNamespace) { u.Uids = append(ids(1, 2), ids(3, 4)...) })), kind: bad, want: "userns_options.uids"},
		"no mapping of groups":               {in: on(of(func(u *runtimeapi.UserNamespace) { u.Gids = nil })), kind: bad, want: "userns_options.gids"},
		"root is not mapped":                 {in: on(of(func(u *runtimeapi.UserNamespace) { u.Uids[0].ContainerId = 1 })), kind: bad, want: "uids[0].container_id"},
		"nothing is mapped":                  {in: on(of(func(u *runtimeapi.UserNamespace) { u.Gids[0].Length = 0 })), kind: bad, want: "gids[0].length"},
		"more than there is":                 {in: on(of(func(u *runtimeapi.UserNamespace) { u.Uids[0].HostId = 4294967295 })), kind: bad, want: "uids[0].length"},
		"beside the host's processes":        {in: on(inUserns, func(in *Input) { in.Config.Linux.SecurityContext.NamespaceOptions.Pid = modeNode }), kind: bad, want: "excludes the host's PID namespace"},
		"beside the host's IPC":              {in: on(inUserns, func(in *Input) { in.Config.Linux.SecurityContext.NamespaceOptions.Ipc = modeNode }), kind: bad, want: "excludes the host's IPC namespace"},
		"a user that it has not":             {in: on(inUserns, as(User{UID: 65536})), kind: bad, want: "users 0 to 65535"},
		"a group that it has not":            {in: on(inUserns, as(User{GID: 65536})), kind: bad, want: "groups 0 to 65535"},
		"another group that it has not":      {in: on(inUserns, as(User{AdditionalGids: []uint32{70000}})), kind: bad, want: "groups 0 to 65535"},
		"the last user and group of it":      {in: on(inUserns, as(User{UID: 65535, GID: 65535})), want: "/run/berth/pods/pod1/ns/user[{0 100000 65536}] [{0 200000 65536}]"},
		"one that nobody has made":           {in: on(inUserns, func(in *Input) { delete(in.Pod.Namespaces, specs.UserNamespace) }), kind: errdefs.IsInternal, want: "no user namespace"},
		"the host's, with a mount's mapping": {in: on(mount(&runtimeapi.Mount{ContainerPath: "/m", HostPath: "/h", UidMappings: ids(1, 2)}, Source{Path: "/h"})), kind: bad, want: "needs a user namespace"},
	})
}

func TestMountsInUserNamespace(t *testing.T) {
	show := func(s *specs.Spec) any {
		var out []string
		for _, m := range s.Mounts {
			if m.Destination == "/v" || m.Destination == "/sys" || m.Destination == "/dev/pts" && !strings.Contains(strings.Join(m.Options, ","), "gid=5") {
				mapped := ""
				if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
					mapped = fmt.Sprint(" ", m.UIDMappings, m.GIDMappings)
				}
				out = append(out, m.Destination+" "+m.Type+" "+m.Source+" "+strings.Join(m.Options, ",")+mapped)
			}
		}
		return strings.Join(out, "; ")
	}
	v := func(change ...func(*runtimeapi.Mount)) func(*Input) {
		m := &runtimeapi.Mount{ContainerPath: "/v", HostPath: "/h"}
		for _, c := range change {
			c(m)
		}
		from := Source{Path: "/h", MountPoint: "/", Shared: true}
		if IsImageVolume(m) {
			from = Source{Layers: []string{"/l"}}
		}
		return mount(m, from)
	}
	mapped := func(m *runtimeapi.Mount) { m.UidMappings, m.GidMappings = ids(100000, 65536), ids(200000, 65536) }
	image := func(m *runtimeapi.Mount) {
		m.HostPath, m.Readonly, m.Image = "", true, &runtimeapi.ImageSpec{Image: "i"}
	}
	small := func(in *Input) {
		in.Config.Linux.SecurityContext.NamespaceOptions.UsernsOptions.Gids[0].Length = 5
		in.Pod.User.GIDs.Length = 5
	}
	const sys = "/sys sysfs sysfs nosuid,noexec,nodev,ro"
	const through = " [{0 100000 65536}] [{0 200000 65536}]"
	bad := errdefs.IsInvalidArgument
	tryEach(t, show, map[string]outcome{
		"none":                         {in: on(inUserns), want: sys},
		"the host's network":           {in: on(inUserns, hostNetwork), want: "/sys bind /sys rbind,rprivate,nosuid,noexec,nodev,rro"},
		"the host's network, nothing":  {in: on(hostNetwork), want: sys},
		"no group for terminals":       {in: on(inUserns, small), want: "/dev/pts devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620; " + sys},
		"under the host's ids":         {in: on(inUserns, v()), want: sys + "; /v bind /h rbind,rprivate"},
		"under its ids":                {in: on(inUserns, v(mapped)), want: sys + "; /v bind /h rbind,rprivate" + through},
		"an image":                     {in: on(inUserns, v(image)), want: sys + "; /v bind /l bind,private,ro,nosuid,nodev" + through},
		"an image under its ids":       {in: on(inUserns, v(image, mapped)), want: sys + "; /v bind /l bind,private,ro,nosuid,nodev" + through},
		"under other ids":              {in: on(inUserns, v(mapped, func(m *runtimeapi.Mount) { m.GidMappings = ids(1, 2) })), kind: bad, want: "mounts[0].uidMappings"},
		"only users under its ids":     {in: on(inUserns, v(mapped, func(m *runtimeapi.Mount) { m.GidMappings = nil })), kind: bad, want: "mounts[0].uidMappings"},
		"seen by the host":             {in: on(inUserns, v(func(m *runtimeapi.Mount) { m.Propagation = runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL })), kind: bad, want: "mounts[0].propagation"},
		"what the host mounts later":   {in: on(inUserns, v(mapped, func(m *runtimeapi.Mount) { m.Propagation = runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER })), want: sys + "; /v bind /h rbind,rslave" + through},
		"cgroups of the privileged":    {in: on(inUserns, privileged, cgroupV2), want: "/sys sysfs sysfs nosuid,noexec,nodev,rw"},
		"the host's sysfs, privileged": {in: on(inUserns, privileged, hostNetwork), want: "/sys bind /sys rbind,rprivate,nosuid,noexec,nodev,rro"},
	})
}

func TestPowersInUserNamespace(t *testing.T) {
	mode := func(m os.FileMode) *os.FileMode { return &m }
	id := func(n uint32) *uint32 { return &n }
	devices := func(in *Input) {
		in.Resolved.Devices = []Device{
			{Node: specs.LinuxDevice{Path: "/dev/disk", Type: "b", Major: 8, FileMode: mode(0o660), UID: id(0), GID: id(6)}, Access: "rw"},
			{Node: specs.LinuxDevice{Path: "/dev/odd", Type: "b", Major: 9, FileMode: mode(0o660), UID: id(70000), GID: id(70000)}, Access: "rw"},
		}
	}
	host := func(in *Input) {
		in.Resolved.HostDevices = []specs.LinuxDevice{
			{Path: "/dev/mem", Type: "c", Major: 1, Minor: 1, FileMode: mode(0o640), UID: id(0), GID: id(15)},
			{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: mode(0o666), UID: id(0), GID: id(0)},
			{Path: "/dev/seen", Type: "c", Major: 10, Minor: 1, FileMode: mode(0o4664), UID: id(0), GID: id(0)},
		}
	}
	show := func(s *specs.Spec) any {
		var out []string
		for _, d := range s.Linux.Devices {
			owner := func(n *uint32) string {
				if n == nil {
					return "-"
				}
				return fmt.Sprint(*n)
			}
			out = append(out, fmt.Sprintf("%s %o %s:%s", d.Path, uint32(*d.FileMode), owner(d.UID), owner(d.GID)))
		}
		allow := fmt.Sprint(len(s.Linux.Resources.Devices), " rules")
		if r := s.Linux.Resources.Devices[0]; r.Allow {
			allow = "all"
		}
		return strings.Join(append(out, allow), ", ")
	}
	tryEach(t, show, map[string]outcome{
		"devices of the request":    {in: on(inUserns, devices), want: "/dev/disk 660 0:6, /dev/odd 660 -:-, 14 rules"},
		"the same of the host":      {in: on(devices), want: "/dev/disk 660 0:6, /dev/odd 660 70000:70000, 14 rules"},
		"of the privileged":         {in: on(inUserns, privileged, host), want: "/dev/fuse 666 -:-, /dev/seen 444 -:-, 14 rules"},
		"of the privileged of host": {in: on(privileged, host), want: "/dev/mem 640 0:15, /dev/fuse 666 0:0, /dev/seen 4664 0:0, all"},
	})
	caps := func(s *specs.Spec) any {
		return fmt.Sprint(len(s.Process.Capabilities.Effective), " ", strings.Contains(strings.Join(s.Process.Capabilities.Bounding, " "), "CAP_SYS_RESOURCE"))
	}
	add := secure(func(s *security) { s.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"SYS_RESOURCE"}} })
	tryEach(t, caps, map[string]outcome{
		"ordinary":                           {in: on(inUserns), want: "14 false"},
		"what Berth itself does not have":    {in: on(inUserns, add), want: "15 true"},
		"the same on the host":               {in: on(add), kind: errdefs.IsFailedPrecondition, want: "CAP_SYS_RESOURCE"},
		"privileged":                         {in: on(inUserns, privileged), want: fmt.Sprint(len(knownCapabilities), " true")},
		"its own cgroups, though privileged": {in: on(inUserns, privileged, cgroupV2), want: fmt.Sprint(len(knownCapabilities), " true")},
	})
	s, err := Build(on(inUserns, privileged, cgroupV2))
	if err != nil {
		t.Fatal(err)
	}
	own := false
	for _, n := range s.Linux.Namespaces {
		own = own || n.Type == specs.CgroupNamespace
	}
	if !own {
		t.Error("a privileged container in a user namespace has no cgroup namespace")
	}
}
