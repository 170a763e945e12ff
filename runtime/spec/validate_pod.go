package spec

import (
	"fmt"
	"net/netip"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxHostname is what a UTS namespace holds (__NEW_UTS_LEN).
const maxHostname = 64

// ValidatePodConfig refuses a pod configuration that is wrong in itself, or that
// asks for what Berth cannot give.
func ValidatePodConfig(c *runtimeapi.PodSandboxConfig) error {
	if c == nil {
		return invalid("config", "", "missing")
	}
	m := c.GetMetadata()
	if m == nil {
		return invalid("metadata", "", "missing")
	}
	// People who write pods for crictl by hand leave out the last two.
	for i, f := range []struct{ field, value string }{{"metadata.name", m.GetName()}, {"metadata.namespace", m.GetNamespace()}, {"metadata.uid", m.GetUid()}} {
		if f.value == "" && i > 0 {
			continue
		}
		if err := podName(f.field, f.value); err != nil {
			return err
		}
	}
	if c.GetWindows() != nil {
		return notYet("windows", "Windows pods are")
	}
	if len(c.GetHostname()) > maxHostname {
		return invalid("hostname", c.GetHostname(), fmt.Sprintf("longer than %d bytes", maxHostname))
	}
	if err := word("hostname", c.GetHostname()); err != nil {
		return err
	}
	if err := optionalPath("log_directory", c.GetLogDirectory()); err != nil {
		return err
	}
	if err := validateDNS(c.GetDnsConfig()); err != nil {
		return err
	}
	for i, p := range c.GetPortMappings() {
		if err := validatePort(fmt.Sprintf("port_mappings[%d]", i), p); err != nil {
			return err
		}
	}
	return validateLinuxPod(c.GetLinux())
}

// podName checks a name that network plugins get as well, in CNI_ARGS, a list of
// KEY=VALUE;KEY=VALUE that knows no quotes.
func podName(field, v string) error {
	if err := name(field, v); err != nil {
		return err
	}
	if strings.ContainsAny(v, ";=") {
		return invalid(field, v, "must not contain ; or =")
	}
	return nil
}

// validateDNS keeps every entry to one word: they are written to resolv.conf.
func validateDNS(d *runtimeapi.DNSConfig) error {
	for _, l := range []struct {
		field string
		list  []string
	}{{"servers", d.GetServers()}, {"searches", d.GetSearches()}, {"options", d.GetOptions()}} {
		for i, v := range l.list {
			field := fmt.Sprintf("dns_config.%s[%d]", l.field, i)
			if v == "" {
				return invalid(field, v, "empty")
			}
			if err := word(field, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func validatePort(field string, p *runtimeapi.PortMapping) error {
	if _, ok := runtimeapi.Protocol_name[int32(p.GetProtocol())]; !ok {
		return invalid(field+".protocol", p.GetProtocol(), "unknown")
	}
	if n := p.GetHostPort(); n < 0 || n > 65535 {
		return invalid(field+".host_port", n, "must be between 0 and 65535")
	}
	if n := p.GetContainerPort(); n < 0 || n > 65535 || n == 0 && p.GetHostPort() != 0 {
		return invalid(field+".container_port", n, "must be between 1 and 65535")
	}
	if ip := p.GetHostIp(); ip != "" {
		if _, err := netip.ParseAddr(ip); err != nil {
			return invalid(field+".host_ip", ip, "not an IP address")
		}
	}
	return nil
}

func validateLinuxPod(l *runtimeapi.LinuxPodSandboxConfig) error {
	if p := l.GetCgroupParent(); strings.Contains("/"+p+"/", "/../") {
		return invalid("linux.cgroup_parent", p, "must not contain ..")
	}
	if err := noNUL("linux.cgroup_parent", l.GetCgroupParent()); err != nil {
		return err
	}
	sc := l.GetSecurityContext()
	if err := validateNamespaces(sc.GetNamespaceOptions()); err != nil {
		return err
	}
	if mode := sc.GetNamespaceOptions().GetPid(); mode == runtimeapi.NamespaceMode_TARGET {
		return invalid("linux.security_context.namespace_options.pid", mode, "only a container has a target")
	}
	if sc.GetRunAsGroup() != nil && sc.GetRunAsUser() == nil {
		return invalid("linux.security_context.run_as_group", sc.GetRunAsGroup().GetValue(), "needs run_as_user")
	}
	if err := validateIDs(sc.GetRunAsUser(), sc.GetRunAsGroup(), sc.GetSupplementalGroups()); err != nil {
		return err
	}
	if err := validateSELinux(sc.GetSelinuxOptions()); err != nil {
		return err
	}
	if err := validateGroupsPolicy(sc.GetSupplementalGroupsPolicy()); err != nil {
		return err
	}
	if _, err := seccompProfile(sc); err != nil {
		return err
	}
	if _, err := profileOf(securityContext+"apparmor", sc.GetApparmor(), "", ""); err != nil {
		return err
	}
	if err := ValidateResources("linux.overhead", l.GetOverhead()); err != nil {
		return err
	}
	if err := ValidateResources("linux.resources", l.GetResources()); err != nil {
		return err
	}
	return validateSysctls(l.GetSysctls(), sc.GetNamespaceOptions())
}
