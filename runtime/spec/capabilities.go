package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultCapabilities are what containers have unless the request says
// otherwise (Docker's list, and containerd's).
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// capabilities fills the sets. The inheritable one holds only what the ambient
// one needs: otherwise files with inheritable capabilities would give more than
// asked (CVE-2022-24769).
func capabilities(in *Input, s *specs.Spec) error {
	held := in.Node.Host.Capabilities
	if in.Pod.User != nil { // where they are all there, and reach no further
		held = in.Node.Host.KernelCapabilities
	}
	has := func(c string) bool { return slices.Contains(held, c) }
	if in.privileged() {
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: held, Effective: held, Permitted: held}
		return nil
	}
	asked := in.security().GetCapabilities()
	add, addAll, err := capabilityNames("add_capabilities", asked.GetAddCapabilities())
	if err != nil {
		return err
	}
	ambient, ambientAll, err := capabilityNames("add_ambient_capabilities", asked.GetAddAmbientCapabilities())
	if err != nil {
		return err
	}
	drop, dropAll, err := capabilityNames("drop_capabilities", asked.GetDropCapabilities())
	if err != nil {
		return err
	}
	// ALL comes first, so that single names can still add to or take from it.
	set := slices.DeleteFunc(slices.Clone(defaultCapabilities), func(c string) bool { return !has(c) })
	if addAll || ambientAll {
		set = slices.Clone(held)
	}
	if dropAll {
		set = nil
	}
	if ambientAll && !dropAll {
		ambient = slices.Concat(held, ambient)
	}
	for _, c := range slices.Concat(add, ambient) {
		if !has(c) && !slices.Contains(drop, c) {
			return fmt.Errorf("linux.security_context.capabilities: Berth cannot give %s, it does not have it itself: %w", c, errdefs.ErrFailedPrecondition)
		}
	}
	set = without(unique(slices.Concat(set, add, ambient)), drop)
	ambient = without(unique(ambient), drop)
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: set, Effective: set, Permitted: set, Inheritable: ambient, Ambient: ambient}
	return nil
}

// capabilityNames brings names into the form CAP_NAME and sets ALL apart.
func capabilityNames(field string, list []string) (names []string, all bool, err error) {
	for i, n := range list {
		name := strings.ToUpper(n)
		if name == "ALL" {
			all = true
			continue
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if !slices.Contains(knownCapabilities, name) {
			return nil, false, invalid(fmt.Sprintf("linux.security_context.capabilities.%s[%d]", field, i), n, "unknown capability")
		}
		names = append(names, name)
	}
	return names, all, nil
}

var knownCapabilities = func() []string {
	var names []string
	for _, c := range capability.ListKnown() {
		names = append(names, capabilityName(c))
	}
	return names
}()

func capabilityName(c capability.Cap) string { return "CAP_" + strings.ToUpper(c.String()) }

// unique drops repetitions and keeps the order.
func unique(list []string) []string {
	var out []string
	for _, v := range list {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func without(list, drop []string) []string {
	return slices.DeleteFunc(list, func(v string) bool { return slices.Contains(drop, v) })
}
