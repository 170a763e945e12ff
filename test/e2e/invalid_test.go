package e2e

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cri/berth/linux/probe"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func wantInvalid(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	wantCode(t, what, err, codes.InvalidArgument, words...)
}

// What is wrong in itself is InvalidArgument, names the field, and changes nothing.
func TestInvalidPods(t *testing.T) {
	n := newNode(t)
	type config = runtimeapi.PodSandboxConfig
	for name, tc := range map[string]struct {
		change func(*config)
		field  string
	}{
		"no metadata":                {func(c *config) { c.Metadata = nil }, "metadata"},
		"no name":                    {func(c *config) { c.Metadata.Name = "" }, "metadata.name"},
		"name with a NUL":            {func(c *config) { c.Metadata.Name = "a\x00b" }, "metadata.name"},
		"hostname too long":          {func(c *config) { c.Hostname = strings.Repeat("h", 65) }, "hostname"},
		"hostname with a line end":   {func(c *config) { c.Hostname = "a\nb" }, "hostname"},
		"relative log directory":     {func(c *config) { c.LogDirectory = "logs" }, "log_directory"},
		"DNS server with a line end": {func(c *config) { c.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"1.1.1.1\nnameserver 6.6.6.6"}} }, "dns_config.servers[0]"},
		"empty DNS search":           {func(c *config) { c.DnsConfig = &runtimeapi.DNSConfig{Searches: []string{"ok", ""}} }, "dns_config.searches[1]"},
		"host port out of range":     {func(c *config) { c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: 70000}} }, "port_mappings[0].host_port"},
		"negative host port":         {func(c *config) { c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: -1}} }, "port_mappings[0].host_port"},
		"no container port":          {func(c *config) { c.PortMappings = []*runtimeapi.PortMapping{{HostPort: 80}} }, "port_mappings[0].container_port"},
		"protocol that is not there": {func(c *config) {
			c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 1, HostPort: 1, Protocol: 9}}
		}, "port_mappings[0].protocol"},
		"host IP that is none": {func(c *config) {
			c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 1, HostPort: 1, HostIp: "::x"}}
		}, "port_mappings[0].host_ip"},
		"cgroup parent that climbs":    {func(c *config) { c.Linux.CgroupParent = "/a/../../b" }, "linux.cgroup_parent"},
		"cgroup parent of two lines":   {func(c *config) { c.Linux.CgroupParent = n.cgroup + "/a\nb" }, "linux.cgroup_parent"},
		"PID of a target":              {func(c *config) { c.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_TARGET }, "namespace_options.pid"},
		"network of a container":       {func(c *config) { c.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_CONTAINER }, "namespace_options.network"},
		"IPC of a container":           {func(c *config) { c.Linux.SecurityContext.NamespaceOptions.Ipc = runtimeapi.NamespaceMode_CONTAINER }, "namespace_options.ipc"},
		"group without user":           {func(c *config) { c.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 1} }, "run_as_group"},
		"negative user":                {func(c *config) { c.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: -1} }, "run_as_user"},
		"negative group":               {func(c *config) { c.Linux.SecurityContext.SupplementalGroups = []int64{1, -1} }, "supplemental_groups[1]"},
		"sysctl of the whole host":     {func(c *config) { c.Linux.Sysctls = map[string]string{"vm.swappiness": "1"} }, "vm.swappiness"},
		"sysctl that climbs":           {func(c *config) { c.Linux.Sysctls = map[string]string{"net/../vm/swappiness": "1"} }, "net/../vm/swappiness"},
		"sysctl that is not there":     {func(c *config) { c.Linux.Sysctls = map[string]string{"net.ipv4.no_such": "1"} }, "net.ipv4.no_such"},
		"sysctl of a value it refuses": {func(c *config) { c.Linux.Sysctls = map[string]string{"net.ipv4.ip_forward": "maybe"} }, "net.ipv4.ip_forward"},
		"sysctl of the host's network": {func(c *config) {
			c.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
			c.Linux.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"}
		}, "net.ipv4.ip_forward"},
		"sysctl of the host's IPC": {func(c *config) {
			c.Linux.SecurityContext.NamespaceOptions.Ipc = runtimeapi.NamespaceMode_NODE
			c.Linux.Sysctls = map[string]string{"kernel.msgmax": "1"}
		}, "kernel.msgmax"},
	} {
		_, err := n.runPod(n.ctx(), n.podConfig("p", tc.change))
		wantInvalid(t, name, err, tc.field)
	}
	_, err := n.rt.RunPodSandbox(n.ctx(), &runtimeapi.RunPodSandboxRequest{})
	wantInvalid(t, "no configuration", err, "config")
	for name, change := range map[string]func(*config){
		"Windows": func(c *config) { c.Windows = &runtimeapi.WindowsPodSandboxConfig{} },
	} {
		_, err := n.runPod(n.ctx(), n.podConfig("p", change))
		wantCode(t, name, err, codes.Unimplemented)
	}
	if got := n.podNames(nil); len(got) != 0 {
		t.Errorf("pods: %v", got)
	}
	if left := append(entries(n.path("state/pods")), n.leases()...); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestInvalidContainers(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("pod"))
	type config = runtimeapi.ContainerConfig
	mount := func(m *runtimeapi.Mount) func(*config) {
		return func(c *config) { c.Mounts = []*runtimeapi.Mount{m} }
	}
	resources := func(r *runtimeapi.LinuxContainerResources) func(*config) {
		return func(c *config) { c.Linux.Resources = r }
	}
	security := func(f func(*runtimeapi.LinuxContainerSecurityContext)) func(*config) {
		return func(c *config) { f(c.Linux.SecurityContext) }
	}
	for name, tc := range map[string]struct {
		change func(*config)
		field  string
	}{
		"no metadata":          {func(c *config) { c.Metadata = nil }, "metadata"},
		"no name":              {func(c *config) { c.Metadata.Name = "" }, "metadata.name"},
		"no image":             {func(c *config) { c.Image = nil }, "image.image"},
		"image of no handler":  {func(c *config) { c.Image.RuntimeHandler = "no-such" }, "image.runtime_handler"},
		"volume of no handler": {mount(&runtimeapi.Mount{ContainerPath: "/x", Readonly: true, Image: &runtimeapi.ImageSpec{Image: busybox, RuntimeHandler: "no-such"}}), "mounts[0].image.runtime_handler"},
		"empty program":        {func(c *config) { c.Command = []string{""} }, "command"},
		"argument with a NUL":  {func(c *config) { c.Args = []string{"a", "b\x00"} }, "args[1]"},
		"argument too long":    {func(c *config) { c.Args = []string{strings.Repeat("x", 1<<17)} }, "args[0]"},
		"variable without key": {func(c *config) { c.Envs = []*runtimeapi.KeyValue{{Value: []byte("x")}} }, "envs[0].key"},
		"key with an equals":   {func(c *config) { c.Envs = []*runtimeapi.KeyValue{{Key: "A=B"}} }, "envs[0].key"},
		"relative directory":   {func(c *config) { c.WorkingDir = "tmp" }, "working_dir"},
		"log that climbs":      {func(c *config) { c.LogPath = "../../etc/cron.d/x" }, "log_path"},
		"no such signal":       {func(c *config) { c.StopSignal = 4711 }, "stop_signal"},

		"relative source":       {mount(&runtimeapi.Mount{HostPath: "tmp", ContainerPath: "/x"}), "mounts[0].host_path"},
		"relative destination":  {mount(&runtimeapi.Mount{HostPath: "/tmp", ContainerPath: "x"}), "mounts[0].container_path"},
		"no source":             {mount(&runtimeapi.Mount{ContainerPath: "/x"}), "mounts[0].host_path"},
		"no destination":        {mount(&runtimeapi.Mount{HostPath: "/tmp"}), "mounts[0].container_path"},
		"over the root":         {mount(&runtimeapi.Mount{HostPath: "/tmp", ContainerPath: "/x/.."}), "mounts[0].container_path"},
		"unknown propagation":   {mount(&runtimeapi.Mount{HostPath: "/tmp", ContainerPath: "/x", Propagation: 7}), "mounts[0].propagation"},
		"rro of writable":       {mount(&runtimeapi.Mount{HostPath: "/tmp", ContainerPath: "/x", RecursiveReadOnly: true}), "mounts[0].recursive_read_only"},
		"rro with propagation":  {mount(&runtimeapi.Mount{HostPath: "/tmp", ContainerPath: "/x", RecursiveReadOnly: true, Readonly: true, Propagation: 1}), "mounts[0].recursive_read_only"},
		"sub path of no image":  {mount(&runtimeapi.Mount{HostPath: "/tmp", ContainerPath: "/x", ImageSubPath: "a"}), "mounts[0].image_sub_path"},
		"relative device":       {func(c *config) { c.Devices = []*runtimeapi.Device{{HostPath: "dev/null"}} }, "devices[0].host_path"},
		"device that is a file": {func(c *config) { c.Devices = []*runtimeapi.Device{{HostPath: "/etc/passwd"}} }, "/etc/passwd"},
		"device permission x":   {func(c *config) { c.Devices = []*runtimeapi.Device{{HostPath: "/dev/null", Permissions: "rwx"}} }, "devices[0].permissions"},

		"quota too small":        {resources(&runtimeapi.LinuxContainerResources{CpuQuota: 10}), "cpu_quota"},
		"negative quota":         {resources(&runtimeapi.LinuxContainerResources{CpuQuota: -2}), "cpu_quota"},
		"period too long":        {resources(&runtimeapi.LinuxContainerResources{CpuPeriod: math.MaxInt64}), "cpu_period"},
		"negative shares":        {resources(&runtimeapi.LinuxContainerResources{CpuShares: -1}), "cpu_shares"},
		"negative memory":        {resources(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: -5}), "memory_limit_in_bytes"},
		"less swap than memory":  {resources(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 1 << 30, MemorySwapLimitInBytes: 1 << 20}), "memory_swap_limit_in_bytes"},
		"CPUs that are no list":  {resources(&runtimeapi.LinuxContainerResources{CpusetCpus: "first"}), "cpuset_cpus"},
		"nodes that are no list": {resources(&runtimeapi.LinuxContainerResources{CpusetMems: "3-1"}), "cpuset_mems"},
		"score out of range":     {resources(&runtimeapi.LinuxContainerResources{OomScoreAdj: 1001}), "oom_score_adj"},
		"setting that climbs":    {resources(&runtimeapi.LinuxContainerResources{Unified: map[string]string{"../x.y": "1"}}), "unified"},

		"group without user": {security(func(s *runtimeapi.LinuxContainerSecurityContext) { s.RunAsGroup = &runtimeapi.Int64Value{} }), "run_as_group"},
		"user by id and name": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.RunAsUser = &runtimeapi.Int64Value{}
			s.RunAsUsername = "app"
		}), "run_as_username"},
		"negative user": {security(func(s *runtimeapi.LinuxContainerSecurityContext) { s.RunAsUser = &runtimeapi.Int64Value{Value: -1} }), "run_as_user"},
		"user above 32 bits": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.RunAsUser = &runtimeapi.Int64Value{Value: 1 << 32}
		}), "run_as_user"},
		"unknown policy": {security(func(s *runtimeapi.LinuxContainerSecurityContext) { s.SupplementalGroupsPolicy = 5 }), "supplemental_groups_policy"},
		"unknown capability": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"CHOWN", "FLY"}}
		}), "add_capabilities[1]"},
		"relative masked path":   {security(func(s *runtimeapi.LinuxContainerSecurityContext) { s.MaskedPaths = []string{"proc/x"} }), "masked_paths[0]"},
		"relative readonly path": {security(func(s *runtimeapi.LinuxContainerSecurityContext) { s.ReadonlyPaths = []string{"/a", "b"} }), "readonly_paths[1]"},
		"profile without name": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost}
		}), "seccomp.localhost_ref"},
		"relative profile": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "p.json"}
		}), "seccomp.localhost_ref"},
		"target that is missing": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.NamespaceOptions.Pid = runtimeapi.NamespaceMode_TARGET
		}), "target_id"},
		"target without mode": {security(func(s *runtimeapi.LinuxContainerSecurityContext) { s.NamespaceOptions.TargetId = "abc" }), "target_id"},
		"the pod's PIDs in a pod that shares none": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
		}), "namespace_options.pid"},
		"the host's PIDs": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.NamespaceOptions.Pid = runtimeapi.NamespaceMode_NODE
		}), "namespace_options.pid"},
		"the host's network": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
		}), "namespace_options.network"},
		"the host's IPC": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.NamespaceOptions.Ipc = runtimeapi.NamespaceMode_NODE
		}), "namespace_options.ipc"},
		"privileged in a pod that is not": {security(func(s *runtimeapi.LinuxContainerSecurityContext) { s.Privileged = true }), "privileged"},
	} {
		_, err := n.create(pod, containerConfig("c", "true", tc.change))
		wantInvalid(t, name, err, tc.field)
	}
	_, err := n.create(pod, nil)
	wantInvalid(t, "no configuration", err, "config")
	_, err = n.images.PullImage(n.ctx(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: busybox, RuntimeHandler: "no-such"}})
	wantInvalid(t, "pull for an unknown handler", err, "runtime_handler", "no-such")
	hugepages := codes.FailedPrecondition
	if slices.Contains(probe.Kernel().Cgroup.Controllers, "hugetlb") {
		hugepages = codes.InvalidArgument // it has other sizes
	}
	for name, tc := range map[string]struct {
		change func(*config)
		code   codes.Code
		words  []string
	}{
		"image that is not there": {func(c *config) { c.Image.Image = "registry.test/none:1" }, codes.NotFound, []string{"registry.test/none:1"}},
		"user that is not there":  {security(func(s *runtimeapi.LinuxContainerSecurityContext) { s.RunAsUsername = "nobody-here" }), codes.InvalidArgument, []string{"nobody-here"}},
		"huge pages that no host has": {resources(&runtimeapi.LinuxContainerResources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "4MB", Limit: 1 << 22}}}),
			hugepages, []string{"hugepage_limits[0]"}},
		"mapped mount": {mount(&runtimeapi.Mount{ContainerPath: "/x", HostPath: "/tmp", UidMappings: []*runtimeapi.IDMapping{{Length: 1}}}), codes.InvalidArgument, []string{"mounts[0].uidMappings"}},
		"CDI device":   {func(c *config) { c.CDIDevices = []*runtimeapi.CDIDevice{{Name: "a/b"}} }, codes.InvalidArgument, []string{"CDI_devices[0]"}},
		"AppArmor profile": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.Apparmor = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "p"}
		}), codes.FailedPrecondition, []string{"apparmor", "AppArmor"}},
		"SELinux label": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.SelinuxOptions = &runtimeapi.SELinuxOption{Level: "s0,c4"}
		}), codes.InvalidArgument, []string{"selinux_options.level"}},
		"missing profile": {security(func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "/no/such.json"}
		}), codes.FailedPrecondition, []string{"seccomp", "/no/such.json"}},
		"device that is not there": {func(c *config) { c.Devices = []*runtimeapi.Device{{HostPath: "/dev/no-such"}} }, codes.FailedPrecondition, []string{"/dev/no-such"}},
		"propagation of a private mount": {mount(&runtimeapi.Mount{ContainerPath: "/x", HostPath: n.privateMount("private"), Propagation: runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL}),
			codes.FailedPrecondition, []string{"mounts[0]", "not a shared mount"}},
	} {
		_, err := n.create(pod, containerConfig("c", "true", tc.change))
		wantCode(t, name, err, tc.code, tc.words...)
	}
	if got := n.containerNames(nil); len(got) != 0 {
		t.Errorf("containers: %v", got)
	}
	if left := append(entries(n.path("state/containers")), entries(n.path("root/containers"))...); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
