package spec

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestValidatePodConfig(t *testing.T) {
	type pod = runtimeapi.PodSandboxConfig
	port := func(p *runtimeapi.PortMapping) func(*pod) {
		return func(c *pod) { c.PortMappings = []*runtimeapi.PortMapping{{}, p} }
	}
	dns := func(d *runtimeapi.DNSConfig) func(*pod) { return func(c *pod) { c.DnsConfig = d } }
	secure := func(f func(*runtimeapi.LinuxSandboxSecurityContext)) func(*pod) {
		return func(c *pod) {
			sc := &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &nsOptions{}}
			f(sc)
			c.Linux = &runtimeapi.LinuxPodSandboxConfig{SecurityContext: sc}
		}
	}
	modes := func(o *nsOptions) func(*pod) {
		return secure(func(s *runtimeapi.LinuxSandboxSecurityContext) { s.NamespaceOptions = o })
	}
	sysctl := func(key, value string, o *nsOptions) func(*pod) {
		return func(c *pod) { modes(o)(c); c.Linux.Sysctls = map[string]string{key: value} }
	}
	for situation, c := range map[string]struct {
		change func(*pod)
		want   string // "" is valid
		kind   func(error) bool
	}{
		"the least":                   {func(c *pod) {}, "", nil},
		"what crictl users write":     {func(c *pod) { c.Linux = &runtimeapi.LinuxPodSandboxConfig{} }, "", nil},
		"no metadata":                 {func(c *pod) { c.Metadata = nil }, "metadata", errdefs.IsInvalidArgument},
		"no name":                     {func(c *pod) { c.Metadata.Name = "" }, "metadata.name", errdefs.IsInvalidArgument},
		"a NUL in the uid":            {func(c *pod) { c.Metadata.Uid = "a\x00" }, "metadata.uid", errdefs.IsInvalidArgument},
		"an endless namespace":        {func(c *pod) { c.Metadata.Namespace = strings.Repeat("n", 2000) }, "metadata.namespace", errdefs.IsInvalidArgument},
		"a hostname":                  {func(c *pod) { c.Hostname = "web-0.example" }, "", nil},
		"a hostname of two lines":     {func(c *pod) { c.Hostname = "a\n1.2.3.4 bank" }, "hostname", errdefs.IsInvalidArgument},
		"a hostname longer than UTS":  {func(c *pod) { c.Hostname = strings.Repeat("h", 65) }, "hostname", errdefs.IsInvalidArgument},
		"a relative log directory":    {func(c *pod) { c.LogDirectory = "logs" }, "log_directory", errdefs.IsInvalidArgument},
		"a pod of the other kind":     {func(c *pod) { c.Windows = &runtimeapi.WindowsPodSandboxConfig{} }, "windows", errdefs.IsNotImplemented},
		"name servers":                {dns(&runtimeapi.DNSConfig{Servers: []string{"10.0.0.10", "fe80::1%eth0"}, Options: []string{"ndots:5"}}), "", nil},
		"a name server of two lines":  {dns(&runtimeapi.DNSConfig{Servers: []string{"10.0.0.10\nnameserver 6.6.6.6"}}), "dns_config.servers[0]", errdefs.IsInvalidArgument},
		"an empty search domain":      {dns(&runtimeapi.DNSConfig{Searches: []string{"a", ""}}), "dns_config.searches[1]", errdefs.IsInvalidArgument},
		"a port":                      {port(&runtimeapi.PortMapping{ContainerPort: 80, HostPort: 8080, HostIp: "::1"}), "", nil},
		"a port without a host port":  {port(&runtimeapi.PortMapping{ContainerPort: 80}), "", nil},
		"a host port without a port":  {port(&runtimeapi.PortMapping{HostPort: 80}), "port_mappings[1].container_port", errdefs.IsInvalidArgument},
		"a port too high":             {port(&runtimeapi.PortMapping{ContainerPort: 65536}), "port_mappings[1].container_port", errdefs.IsInvalidArgument},
		"a negative host port":        {port(&runtimeapi.PortMapping{ContainerPort: 80, HostPort: -1}), "port_mappings[1].host_port", errdefs.IsInvalidArgument},
		"a host port too high":        {port(&runtimeapi.PortMapping{ContainerPort: 80, HostPort: 70000}), "port_mappings[1].host_port", errdefs.IsInvalidArgument},
		"an unknown protocol":         {port(&runtimeapi.PortMapping{ContainerPort: 80, Protocol: 9}), "port_mappings[1].protocol", errdefs.IsInvalidArgument},
		"a host that is no address":   {port(&runtimeapi.PortMapping{ContainerPort: 80, HostIp: "localhost"}), "port_mappings[1].host_ip", errdefs.IsInvalidArgument},
		"a cgroup parent":             {func(c *pod) { c.Linux = &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/kubepods/besteffort/pod..x"} }, "", nil},
		"a cgroup parent that leaves": {func(c *pod) { c.Linux = &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/kubepods/../.."} }, "cgroup_parent", errdefs.IsInvalidArgument},
		"all of the host's":           {modes(&nsOptions{Network: modeNode, Pid: modeNode, Ipc: modeNode}), "", nil},
		"processes of each container": {modes(&nsOptions{Pid: modeContainer}), "", nil},
		"processes of a target":       {modes(&nsOptions{Pid: modeTarget}), "options.pid", errdefs.IsInvalidArgument},
		"a network of each container": {modes(&nsOptions{Network: modeContainer}), "options.network", errdefs.IsInvalidArgument},
		"a user namespace":            {modes(&nsOptions{UsernsOptions: &runtimeapi.UserNamespace{Uids: ids(1, 2), Gids: ids(1, 2)}}), "", nil},
		"one without mappings":        {modes(&nsOptions{UsernsOptions: &runtimeapi.UserNamespace{}}), "userns_options.uids", errdefs.IsInvalidArgument},
		"one with the host's IPC":     {modes(&nsOptions{Ipc: modeNode, UsernsOptions: &runtimeapi.UserNamespace{Uids: ids(1, 2), Gids: ids(1, 2)}}), "IPC", errdefs.IsInvalidArgument},
		"a group without a user":      {secure(func(s *runtimeapi.LinuxSandboxSecurityContext) { s.RunAsGroup = &runtimeapi.Int64Value{} }), "run_as_group", errdefs.IsInvalidArgument},
		"a negative user":             {secure(func(s *runtimeapi.LinuxSandboxSecurityContext) { s.RunAsUser = &runtimeapi.Int64Value{Value: -1} }), "run_as_user", errdefs.IsInvalidArgument},
		"an unknown policy of groups": {secure(func(s *runtimeapi.LinuxSandboxSecurityContext) { s.SupplementalGroupsPolicy = 7 }), "supplemental_groups_policy", errdefs.IsInvalidArgument},
		"an unknown kind of profile": {secure(func(s *runtimeapi.LinuxSandboxSecurityContext) {
			s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: 7}
		}), "seccomp.profile_type", errdefs.IsInvalidArgument},
		"a profile without a file": {secure(func(s *runtimeapi.LinuxSandboxSecurityContext) {
			s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost}
		}), "seccomp.localhost_ref", errdefs.IsInvalidArgument},
		"a profile of AppArmor without a name": {secure(func(s *runtimeapi.LinuxSandboxSecurityContext) {
			s.Apparmor = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost}
		}), "apparmor.localhost_ref", errdefs.IsInvalidArgument},
		//lint:ignore SA1019 old clients still set it
		"an old profile": {secure(func(s *runtimeapi.LinuxSandboxSecurityContext) { s.SeccompProfilePath = "runtime/default" }), "", nil},
		//lint:ignore SA1019 old clients still set it
		"an old profile of no kind": {secure(func(s *runtimeapi.LinuxSandboxSecurityContext) { s.SeccompProfilePath = "profile" }), "seccomp_profile_path", errdefs.IsInvalidArgument},
		"an overhead": {func(c *pod) {
			c.Linux = &runtimeapi.LinuxPodSandboxConfig{Overhead: &runtimeapi.LinuxContainerResources{CpuShares: 2, MemoryLimitInBytes: 1 << 20}}
		}, "", nil},
		"a negative overhead": {func(c *pod) {
			c.Linux = &runtimeapi.LinuxPodSandboxConfig{Overhead: &runtimeapi.LinuxContainerResources{CpuShares: -2}}
		}, "linux.overhead.cpu_shares", errdefs.IsInvalidArgument},
		"a sum of nothing": {func(c *pod) {
			c.Linux = &runtimeapi.LinuxPodSandboxConfig{Resources: &runtimeapi.LinuxContainerResources{CpusetCpus: "all"}}
		}, "linux.resources.cpuset_cpus", errdefs.IsInvalidArgument},
		"a name of two arguments": {func(c *pod) { c.Metadata.Name = "a;K8S_POD_UID=b" }, "metadata.name", errdefs.IsInvalidArgument},
		"a name of two lines":     {func(c *pod) { c.Metadata.Namespace = "a\nb" }, "metadata.namespace", errdefs.IsInvalidArgument},
		"a wrong label of SELinux": {secure(func(s *runtimeapi.LinuxSandboxSecurityContext) {
			s.SelinuxOptions = &runtimeapi.SELinuxOption{Type: "spc_t", Level: "s0,c1"}
		}), "selinux_options.level", errdefs.IsInvalidArgument},
		"a sysctl of the network":         {sysctl("net.ipv4.ip_forward", "1", nil), "", nil},
		"a sysctl with slashes":           {sysctl("net/ipv4/conf/eth0.1/forwarding", "1", nil), "", nil},
		"a sysctl of IPC":                 {sysctl("kernel.shmmax", "1", nil), "", nil},
		"a sysctl of message queues":      {sysctl("fs.mqueue.msg_max", "1", nil), "", nil},
		"a sysctl of the host":            {sysctl("vm.swappiness", "1", nil), "vm.swappiness", errdefs.IsInvalidArgument},
		"a sysctl of the whole kernel":    {sysctl("kernel.panic", "1", nil), "kernel.panic", errdefs.IsInvalidArgument},
		"a sysctl that climbs":            {sysctl("net/../kernel/panic", "1", nil), "linux.sysctls", errdefs.IsInvalidArgument},
		"a sysctl that climbs inside out": {sysctl("net.//.kernel.panic", "1", nil), "linux.sysctls", errdefs.IsInvalidArgument},
		"an interface with a dot":         {sysctl("net.ipv4.conf.eth0/1.forwarding", "1", nil), "", nil},
		"an absolute sysctl":              {sysctl("/proc/sys/net/x", "1", nil), "linux.sysctls", errdefs.IsInvalidArgument},
		"half a sysctl":                   {sysctl("net.", "1", nil), "linux.sysctls", errdefs.IsInvalidArgument},
		"a sysctl that climbs by dots":    {sysctl("net...kernel.panic", "1", nil), "linux.sysctls", errdefs.IsInvalidArgument},
		"the host's network has its own":  {sysctl("net.ipv4.ip_forward", "1", &nsOptions{Network: modeNode}), "net namespace of the host", errdefs.IsInvalidArgument},
		"the host's IPC has its own":      {sysctl("kernel.sem", "1", &nsOptions{Ipc: modeNode}), "ipc namespace of the host", errdefs.IsInvalidArgument},
		"a NUL in a sysctl":               {sysctl("kernel.sem", "1\x00", nil), "linux.sysctls", errdefs.IsInvalidArgument},
	} {
		t.Run(situation, func(t *testing.T) {
			config := &pod{Metadata: &runtimeapi.PodSandboxMetadata{Name: "n", Namespace: "default", Uid: "u"}}
			c.change(config)
			err := ValidatePodConfig(config)
			if c.kind == nil && err != nil || c.kind != nil && (err == nil || !c.kind(err) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
		})
	}
	if err := ValidatePodConfig(nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no config: got error %v", err)
	}
}

func TestValidateContainerConfig(t *testing.T) {
	for situation, c := range map[string]struct {
		change func(*container)
		want   string
	}{
		"no metadata":              {func(c *container) { c.Metadata = nil }, "metadata"},
		"no name":                  {func(c *container) { c.Metadata.Name = "" }, "metadata.name"},
		"no image":                 {func(c *container) { c.Image = nil }, "image.image"},
		"an empty image":           {func(c *container) { c.Image.Image = "" }, "image.image"},
		"a log outside":            {func(c *container) { c.LogPath = "../../etc/passwd" }, "log_path"},
		"a NUL in the log's path":  {func(c *container) { c.LogPath = "a\x00b" }, "log_path"},
		"an unknown stop signal":   {func(c *container) { c.StopSignal = 99 }, "stop_signal"},
		"an unknown groups policy": {func(c *container) { c.Linux.SecurityContext.SupplementalGroupsPolicy = 5 }, "supplemental_groups_policy"},
		"a NUL in the user's name": {func(c *container) { c.Linux.SecurityContext.RunAsUsername = "a\x00" }, "run_as_username"},
		"a NUL in an argument":     {func(c *container) { c.Args = []string{"a\x00"} }, "args[0]"},
		"a NUL in the directory":   {func(c *container) { c.WorkingDir = "/\x00" }, "working_dir"},
		"a value that is a megabyte": {func(c *container) {
			c.Envs = []*runtimeapi.KeyValue{{Key: "A", Value: []byte(strings.Repeat("x", 1<<20))}}
		}, "envs[0]"},
	} {
		t.Run(situation, func(t *testing.T) {
			config := input().Config
			c.change(config)
			err := ValidateContainerConfig(config)
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
			if err != nil && len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	if err := ValidateContainerConfig(nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no config: got error %v", err)
	}
}
