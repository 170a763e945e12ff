package spec

import (
	"fmt"
	"math"
	"regexp"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const securityContext = "linux.security_context."

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

func validateSecurity(sc *runtimeapi.LinuxContainerSecurityContext) error {
	options := sc.GetNamespaceOptions()
	if err := validateNamespaces(options); err != nil {
		return err
	}
	if err := validateTarget(options); err != nil {
		return err
	}
	if err := validateUser(sc); err != nil {
		return err
	}
	c := sc.GetCapabilities()
	for _, l := range []struct {
		field string
		list  []string
	}{
		{"add_capabilities", c.GetAddCapabilities()},
		{"drop_capabilities", c.GetDropCapabilities()},
		{"add_ambient_capabilities", c.GetAddAmbientCapabilities()},
	} {
		if _, _, err := capabilityNames(l.field, l.list); err != nil {
			return err
		}
	}
	for _, l := range []struct {
		field string
		list  []string
	}{{"masked_paths", sc.GetMaskedPaths()}, {"readonly_paths", sc.GetReadonlyPaths()}} {
		for i, p := range l.list {
			if err := requiredPath(fmt.Sprintf("%s%s[%d]", securityContext, l.field, i), p); err != nil {
				return err
			}
		}
	}
	if _, err := seccompProfile(sc); err != nil {
		return err
	}
	if _, err := apparmorProfile(sc); err != nil {
		return err
	}
	return validateSELinux(sc.GetSelinuxOptions())
}

func validateUser(sc *runtimeapi.LinuxContainerSecurityContext) error {
	if sc.GetRunAsUser() != nil && sc.GetRunAsUsername() != "" {
		return invalid(securityContext+"run_as_username", sc.GetRunAsUsername(), "run_as_user is set too")
	}
	if sc.GetRunAsGroup() != nil && sc.GetRunAsUser() == nil && sc.GetRunAsUsername() == "" {
		return invalid(securityContext+"run_as_group", sc.GetRunAsGroup().GetValue(), "needs run_as_user or run_as_username")
	}
	if err := validateGroupsPolicy(sc.GetSupplementalGroupsPolicy()); err != nil {
		return err
	}
	if err := noNUL(securityContext+"run_as_username", sc.GetRunAsUsername()); err != nil {
		return err
	}
	return validateIDs(sc.GetRunAsUser(), sc.GetRunAsGroup(), sc.GetSupplementalGroups())
}

func validateGroupsPolicy(p runtimeapi.SupplementalGroupsPolicy) error {
	if _, ok := runtimeapi.SupplementalGroupsPolicy_name[int32(p)]; !ok {
		return invalid(securityContext+"supplemental_groups_policy", p, "unknown")
	}
	return nil
}

// validateIDs keeps ids in the range of the kernel, whose largest means "no
// change" in its calls.
func validateIDs(user, group *runtimeapi.Int64Value, groups []int64) error {
	check := func(field string, id int64) error {
		if id < 0 || id >= math.MaxUint32 {
			return invalid(securityContext+field, id, fmt.Sprintf("must be between 0 and %d", math.MaxUint32-1))
		}
		return nil
	}
	if err := check("run_as_user", user.GetValue()); err != nil {
		return err
	}
	if err := check("run_as_group", group.GetValue()); err != nil {
		return err
	}
	if len(groups) > maxGroups {
		return invalid(securityContext+"supplemental_groups", len(groups), fmt.Sprintf("a process has at most %d groups", maxGroups))
	}
	for i, g := range groups {
		if err := check(fmt.Sprintf("supplemental_groups[%d]", i), g); err != nil {
			return err
		}
	}
	return nil
}

func validateNamespaces(o *runtimeapi.NamespaceOption) error {
	const field = securityContext + "namespace_options."
	for _, n := range []struct {
		name string
		mode runtimeapi.NamespaceMode
	}{{"network", o.GetNetwork()}, {"ipc", o.GetIpc()}} {
		if n.mode != runtimeapi.NamespaceMode_POD && n.mode != runtimeapi.NamespaceMode_NODE {
			return invalid(field+n.name, n.mode, "must be POD or NODE")
		}
	}
	if _, ok := runtimeapi.NamespaceMode_name[int32(o.GetPid())]; !ok {
		return invalid(field+"pid", o.GetPid(), "unknown")
	}
	return validateUserns(o)
}

func validateTarget(o *runtimeapi.NamespaceOption) error {
	const field = securityContext + "namespace_options.target_id"
	if o.GetPid() == runtimeapi.NamespaceMode_TARGET && o.GetTargetId() == "" {
		return invalid(field, "", "missing, pid is TARGET")
	}
	if o.GetPid() != runtimeapi.NamespaceMode_TARGET && o.GetTargetId() != "" {
		return invalid(field, o.GetTargetId(), "pid is "+o.GetPid().String()+", not TARGET")
	}
	return nil
}

func validateSELinux(o *runtimeapi.SELinuxOption) error {
	for _, f := range []struct{ field, value string }{{"user", o.GetUser()}, {"role", o.GetRole()}, {"type", o.GetType()}} {
		if !labelPart.MatchString(f.value) {
			return invalid(securityContext+"selinux_options."+f.field, f.value, "not part of a label")
		}
	}
	if l := o.GetLevel(); l != "" && !labelLevel.MatchString(l) {
		return invalid(securityContext+"selinux_options.level", l, "not a level such as s0:c1,c2")
	}
	return nil
}

// A label is user:role:type:level. Whether the policy knows it is for the host
// to say; whether it has the form, on every host.
var (
	labelPart  = regexp.MustCompile(`^[A-Za-z0-9_.-]*$`)
	labelLevel = regexp.MustCompile(`^` + oneLevel + `(-` + oneLevel + `)?$`)
)

const (
	categories = `c[0-9]{1,4}(\.c[0-9]{1,4})?`
	oneLevel   = `s[0-9]{1,2}(:` + categories + `(,` + categories + `)*)?`
)
