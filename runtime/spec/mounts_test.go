package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestMounts(t *testing.T) {
	show := func(s *specs.Spec) any {
		var out []string
		for _, m := range s.Mounts {
			if m.Type == "bind" {
				out = append(out, fmt.Sprintf("%s<%s:%s", m.Destination, strings.TrimPrefix(m.Source, "/run/berth/pods/pod1"), strings.Join(m.Options[1:], ",")))
			}
		}
		return s.Linux.RootfsPropagation + " " + strings.Join(out, " ")
	}
	m := func(to string, change ...func(*runtimeapi.Mount)) *runtimeapi.Mount {
		out := &runtimeapi.Mount{ContainerPath: to, HostPath: "/h"}
		for _, c := range change {
			c(out)
		}
		return out
	}
	prop := func(p runtimeapi.MountPropagation) func(*runtimeapi.Mount) {
		return func(m *runtimeapi.Mount) { m.Propagation = p }
	}
	both, slave := prop(runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL), prop(runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER)
	ro := func(m *runtimeapi.Mount) { m.Readonly = true }
	rro := func(m *runtimeapi.Mount) { m.RecursiveReadOnly = true }
	with := func(list ...string) func(*runtimeapi.Mount) {
		return func(m *runtimeapi.Mount) { m.MountOptions = list }
	}
	at := Source{Path: "/h", MountPoint: "/"}
	shared, slaved := at, at
	shared.Shared, slaved.Slave = true, true
	const pod = "/etc/hostname</hostname:rprivate,rw /etc/hosts</hosts:rprivate,rw /etc/resolv.conf</resolv.conf:rprivate,rw /dev/shm</shm:rprivate,rw"
	refused := func(c ...func(*runtimeapi.Mount)) Input { return on(mount(m("/m", c...), shared)) }
	tryEach(t, show, map[string]outcome{
		"the pod's own":                 {in: on(), want: " " + pod},
		"read-only root":                {in: on(secure(func(s *security) { s.ReadonlyRootfs = true })), want: " " + strings.Replace(strings.ReplaceAll(pod, "rw", "ro"), "/shm:rprivate,ro", "/shm:rprivate,rw", 1)},
		"the host's shared memory":      {in: on(hostNamespaces), want: " " + strings.Replace(pod, "</shm", "</dev/shm", 1)},
		"files that the pod lacks":      {in: on(func(in *Input) { in.Pod.Hosts, in.Pod.Hostname = "", "" }), want: " /etc/resolv.conf</resolv.conf:rprivate,rw /dev/shm</shm:rprivate,rw"},
		"private":                       {in: on(mount(m("/m"), at)), want: " /m</h:rprivate " + pod},
		"read-only":                     {in: on(mount(m("/m", ro), at)), want: " /m</h:rprivate,ro " + pod},
		"read-only with all below":      {in: on(mount(m("/m", ro, rro), at)), want: " /m</h:rprivate,rro " + pod},
		"from the host":                 {in: on(mount(m("/m", slave), slaved)), want: "rslave /m</h:rslave " + pod},
		"from the host, shared there":   {in: on(mount(m("/m", slave), shared)), want: "rslave /m</h:rslave " + pod},
		"both ways":                     {in: on(mount(m("/m", both), shared)), want: "rshared /m</h:rshared " + pod},
		"both ways beats one way":       {in: on(mount(m("/m", both), shared), mount(m("/n", slave), shared)), want: "rshared /m</h:rshared /n</h:rslave " + pod},
		"parents before children":       {in: on(mount(m("/a/b/c/d"), at), mount(m("/a"), at)), want: " /a</h:rprivate " + pod + " /a/b/c/d</h:rprivate"},
		"instead of the pod's files":    {in: on(mount(m("/etc//hosts/"), at)), want: " /etc/hosts</h:rprivate /etc/hostname</hostname:rprivate,rw /etc/resolv.conf</resolv.conf:rprivate,rw /dev/shm</shm:rprivate,rw"},
		"from a host that does not":     {in: on(mount(m("/m", slave), at)), kind: errdefs.IsFailedPrecondition, want: "not a shared or slave mount"},
		"both ways from a slave":        {in: on(mount(m("/m", both), slaved)), kind: errdefs.IsFailedPrecondition, want: "not a shared mount"},
		"the root":                      {in: on(mount(m("//"), at)), kind: errdefs.IsInvalidArgument, want: "container_path"},
		"a relative destination":        {in: on(mount(m("m"), at)), kind: errdefs.IsInvalidArgument, want: "mounts[0].container_path"},
		"a relative source":             {in: refused(func(m *runtimeapi.Mount) { m.HostPath = "h" }), kind: errdefs.IsInvalidArgument, want: "host_path"},
		"no source":                     {in: refused(func(m *runtimeapi.Mount) { m.HostPath = "" }), kind: errdefs.IsInvalidArgument, want: "host_path"},
		"recursive but not read-only":   {in: refused(rro), kind: errdefs.IsInvalidArgument, want: "recursive_read_only"},
		"recursive and propagated":      {in: refused(ro, rro, slave), kind: errdefs.IsInvalidArgument, want: "PROPAGATION_PRIVATE"},
		"an unknown propagation":        {in: refused(prop(7)), kind: errdefs.IsInvalidArgument, want: "propagation"},
		"a path in no image":            {in: refused(func(m *runtimeapi.Mount) { m.ImageSubPath = "x" }), kind: errdefs.IsInvalidArgument, want: "image_sub_path"},
		"mapped ids":                    {in: refused(func(m *runtimeapi.Mount) { m.GidMappings = []*runtimeapi.IDMapping{{}} }), kind: errdefs.IsInvalidArgument, want: "uidMappings"},
		"options":                       {in: on(mount(m("/m", ro, with("noexec", "nodev", "nosuid", "rnoatime")), at)), want: " /m</h:rprivate,ro,noexec,nodev,nosuid,rnoatime " + pod},
		"an option that frees":          {in: refused(with("noexec", "exec")), kind: errdefs.IsInvalidArgument, want: "mounts[0].mount_options[1]"},
		"an option of another field":    {in: refused(with("ro")), kind: errdefs.IsInvalidArgument, want: "mount_options[0]"},
		"an option of no mount":         {in: refused(with("relatimerelatime")), kind: errdefs.IsInvalidArgument, want: "mount_options[0]"},
		"an empty option":               {in: refused(with("")), kind: errdefs.IsInvalidArgument, want: "mount_options[0]"},
		"a mount that nobody looked at": {in: on(func(in *Input) { in.Config.Mounts = []*runtimeapi.Mount{m("/m")} }), kind: errdefs.IsInternal, want: "were prepared"},
	})
	all := func(s *specs.Spec) any {
		var out []string
		for _, m := range s.Mounts {
			out = append(out, m.Destination)
		}
		return strings.Join(out, " ")
	}
	tryEach(t, all, map[string]outcome{
		"a /dev of the request leaves nothing of Berth's below": {in: on(mount(m("/dev"), at)),
			want: "/proc /sys /sys/fs/cgroup /dev /etc/hostname /etc/hosts /etc/resolv.conf /dev/shm"},
		"a /sys and a /proc of the request": {in: on(mount(m("/sys"), at), mount(m("/proc"), at)),
			want: "/dev /dev/pts /dev/mqueue /sys/fs/cgroup /sys /proc /etc/hostname /etc/hosts /etc/resolv.conf /dev/shm"},
		"a pod without shared memory": {in: on(func(in *Input) { in.Pod.Shm = "" }),
			want: "/proc /dev /dev/pts /dev/shm /dev/mqueue /sys /sys/fs/cgroup /etc/hostname /etc/hosts /etc/resolv.conf"},
	})
	options := func(s *specs.Spec) any {
		var out []string
		for _, m := range s.Mounts {
			if strings.HasPrefix(m.Destination, "/sys") {
				out = append(out, strings.Join(m.Options, ","))
			}
		}
		return strings.Join(out, " ")
	}
	tryEach(t, options, map[string]outcome{
		"/sys read-only":                         {in: on(), want: "nosuid,noexec,nodev,ro nosuid,noexec,nodev,relatime,ro"},
		"/sys read-only on v2":                   {in: on(cgroupV2), want: "nosuid,noexec,nodev,ro nosuid,noexec,nodev,relatime,ro"},
		"/sys writable for the privileged":       {in: on(privileged), want: "nosuid,noexec,nodev,rw nosuid,noexec,nodev,relatime,rw"},
		"/sys writable for the privileged on v2": {in: on(privileged, cgroupV2), want: "nosuid,noexec,nodev,rw nosuid,noexec,nodev,relatime,rw,nsdelegate,memory_recursiveprot"},
	})
}

func TestDevices(t *testing.T) {
	show := func(s *specs.Spec) any {
		var out []string
		for _, d := range s.Linux.Devices {
			out = append(out, fmt.Sprintf("%s=%s%d:%d", d.Path, d.Type, d.Major, d.Minor))
		}
		rules := s.Linux.Resources.Devices
		last := rules[len(rules)-1]
		rule := fmt.Sprintf("%d rules, last %v %s %s", len(rules), last.Allow, last.Type, last.Access)
		return strings.Join(out, " ") + "; " + rule
	}
	disk := func(in *Input) {
		in.Resolved.Devices = append(in.Resolved.Devices, Device{Node: specs.LinuxDevice{Path: "/dev/x", Type: "b", Major: 8, Minor: 1}, Access: "rw"})
	}
	device := func(d *runtimeapi.Device) func(*Input) {
		return func(in *Input) { in.Config.Devices = []*runtimeapi.Device{d} }
	}
	tryEach(t, show, map[string]outcome{
		"none":                          {in: on(), want: "; 12 rules, last true c rwm"},
		"one":                           {in: on(disk), want: "/dev/x=b8:1; 13 rules, last true b rw"},
		"the same twice":                {in: on(disk, disk), want: "/dev/x=b8:1; 14 rules, last true b rw"},
		"all for the privileged":        {in: on(privileged), want: "/dev/fuse=c10:229; 1 rules, last true a rwm"},
		"one beside all":                {in: on(privileged, disk), want: "/dev/x=b8:1 /dev/fuse=c10:229; 1 rules, last true a rwm"},
		"an unknown permission":         {in: on(device(&runtimeapi.Device{HostPath: "/dev/x", Permissions: "rwx"})), kind: errdefs.IsInvalidArgument, want: "devices[0].permissions"},
		"a relative path":               {in: on(device(&runtimeapi.Device{HostPath: "dev/x"})), kind: errdefs.IsInvalidArgument, want: "devices[0].host_path"},
		"a relative path inside":        {in: on(device(&runtimeapi.Device{HostPath: "/dev/x", ContainerPath: "x"})), kind: errdefs.IsInvalidArgument, want: "container_path"},
		"a container of the other kind": {in: on(func(in *Input) { in.Config.Windows = &runtimeapi.WindowsContainerConfig{} }), kind: errdefs.IsNotImplemented, want: "windows"},
	})
}
