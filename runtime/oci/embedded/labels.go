package embedded

import (
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// labels tell the security modules what the program runs as. They take effect
// at execve, so berth-init itself is not confined by them.
func (c *compilation) labels(p *specs.Process) error {
	if profile := p.ApparmorProfile; profile != "" {
		switch {
		case hasAppArmor():
			c.add(&plan.ExecLabel{Path: "apparmor/exec", Value: "exec " + profile})
		case profile != "unconfined": // without AppArmor everything is
			return absent("process.apparmorProfile", "AppArmor")
		}
	}
	if p.SelinuxLabel != "" {
		if !hasSELinux() {
			return absent("process.selinuxLabel", "SELinux")
		}
		c.add(&plan.ExecLabel{Path: "exec", Value: p.SelinuxLabel})
	}
	return nil
}

func absent(field, module string) error {
	return fmt.Errorf("%s is set, but the host has no %s: %w", field, module, errdefs.ErrNotImplemented)
}

func hasAppArmor() bool {
	b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && strings.HasPrefix(string(b), "Y")
}

func hasSELinux() bool {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil
}
