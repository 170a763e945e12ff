package spec

import (
	"fmt"
	"path"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxString is the longest argument or variable that execve takes
// (MAX_ARG_STRLEN), maxStrings what it takes in all, with the stack as large as
// it may be (fs/exec.c bprm_stack_limits).
const (
	maxString  = 128 << 10
	maxStrings = 6 << 20
)

// ValidateContainerConfig refuses a container configuration that is wrong in
// itself, or that asks for what Berth cannot give.
func ValidateContainerConfig(c *runtimeapi.ContainerConfig) error {
	if c == nil {
		return invalid("config", "", "missing")
	}
	if c.GetMetadata() == nil {
		return invalid("metadata", "", "missing")
	}
	if err := name("metadata.name", c.GetMetadata().GetName()); err != nil {
		return err
	}
	if c.GetImage().GetImage() == "" {
		return invalid("image.image", "", "missing")
	}
	if c.GetWindows() != nil {
		return notYet("windows", "Windows containers are")
	}
	if _, err := CDIDevices(c); err != nil {
		return err
	}
	if err := validateProgram(c); err != nil {
		return err
	}
	if err := optionalPath("working_dir", c.GetWorkingDir()); err != nil {
		return err
	}
	if err := validateLogPath(c.GetLogPath()); err != nil {
		return err
	}
	if _, err := StopSignal(c, ""); err != nil {
		return err
	}
	for i, m := range c.GetMounts() {
		if err := validateMount(fmt.Sprintf("mounts[%d]", i), m, c.GetLinux().GetSecurityContext().GetNamespaceOptions()); err != nil {
			return err
		}
	}
	for i, d := range c.GetDevices() {
		if err := validateDevice(fmt.Sprintf("devices[%d]", i), d); err != nil {
			return err
		}
	}
	if err := validateResources(c.GetLinux().GetResources()); err != nil {
		return fmt.Errorf("linux.resources.%w", err)
	}
	return validateSecurity(c.GetLinux().GetSecurityContext())
}

// validateProgram checks what execve would stumble over in the container, where
// its error says less.
func validateProgram(c *runtimeapi.ContainerConfig) error {
	total := 0
	for _, l := range []struct {
		field string
		list  []string
	}{{"command", c.GetCommand()}, {"args", c.GetArgs()}} {
		if err := validateWords(l.field, l.list, &total); err != nil {
			return err
		}
	}
	for i, e := range c.GetEnvs() {
		field := fmt.Sprintf("envs[%d]", i)
		if e.GetKey() == "" || strings.Contains(e.GetKey(), "=") {
			return invalid(field+".key", e.GetKey(), "must not be empty or contain =")
		}
		if err := execString(field, e.GetKey()+"="+string(e.GetValue()), &total); err != nil {
			return err
		}
	}
	return nil
}

// ValidateCommand checks the words of a command in a container.
func ValidateCommand(words []string) error {
	if len(words) == 0 || words[0] == "" {
		return invalid("cmd", "", "empty")
	}
	return validateWords("cmd", words, new(int))
}

func validateWords(field string, words []string, total *int) error {
	for i, v := range words {
		if err := execString(fmt.Sprintf("%s[%d]", field, i), v, total); err != nil {
			return err
		}
	}
	return nil
}

// execString checks one string for execve, and adds it to what there is of them.
func execString(field, v string, total *int) error {
	if len(v) >= maxString {
		return invalid(field, v, fmt.Sprintf("%d bytes, the kernel takes %d", len(v), maxString-1))
	}
	if *total += len(v) + 1; *total > maxStrings {
		return invalid(field, v, fmt.Sprintf("with this the program gets more than %d bytes, which the kernel does not take", maxStrings))
	}
	return noNUL(field, v)
}

func validateLogPath(p string) error {
	if strings.Contains("/"+p+"/", "/../") {
		return invalid("log_path", p, "must not leave the pod's log directory")
	}
	return noNUL("log_path", p)
}

func validateMount(field string, m *runtimeapi.Mount, o *runtimeapi.NamespaceOption) error {
	if err := requiredPath(field+".container_path", m.GetContainerPath()); err != nil {
		return err
	}
	if path.Clean(m.GetContainerPath()) == "/" {
		return invalid(field+".container_path", m.GetContainerPath(), "the root itself cannot be mounted over")
	}
	switch {
	case !IsImageVolume(m) && m.GetImageSubPath() != "":
		return invalid(field+".image_sub_path", m.GetImageSubPath(), "needs an image")
	}
	if IsImageVolume(m) {
		if err := validateImageVolume(field, m); err != nil {
			return err
		}
	} else if err := requiredPath(field+".host_path", m.GetHostPath()); err != nil {
		return err
	}
	if _, ok := runtimeapi.MountPropagation_name[int32(m.GetPropagation())]; !ok {
		return invalid(field+".propagation", m.GetPropagation(), "unknown")
	}
	if err := validateMountOptions(field, m); err != nil {
		return err
	}
	if err := validateMountMapping(field, m, o); err != nil {
		return err
	}
	// CRI: never fall back to something weaker.
	if m.GetRecursiveReadOnly() && !m.GetReadonly() {
		return invalid(field+".recursive_read_only", true, "needs readonly")
	}
	if m.GetRecursiveReadOnly() && m.GetPropagation() != runtimeapi.MountPropagation_PROPAGATION_PRIVATE {
		return invalid(field+".recursive_read_only", true, "needs PROPAGATION_PRIVATE, not "+m.GetPropagation().String())
	}
	return nil
}

func validateDevice(field string, d *runtimeapi.Device) error {
	if err := requiredPath(field+".host_path", d.GetHostPath()); err != nil {
		return err
	}
	if err := optionalPath(field+".container_path", d.GetContainerPath()); err != nil {
		return err
	}
	if strings.Trim(d.GetPermissions(), "rwm") != "" {
		return invalid(field+".permissions", d.GetPermissions(), "must be made of r, w and m")
	}
	return nil
}
