package spec

import (
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Resolved is what a configuration refers to on the host.
type Resolved struct {
	Mounts         []Source // one for each mount of the request
	Devices        []Device
	HostDevices    []specs.LinuxDevice // for a privileged container
	NoHostDevices  bool                // a privileged container gets none, and may use none
	SeccompProfile []byte              // of a Localhost profile
	// AppArmorProfile is the one that confines the container; empty: none.
	AppArmorProfile string
	// CDI makes the edits of the CDI devices; nil without any. Whoever knows the
	// directories of their descriptions fills it in.
	CDI func(*specs.Spec) error `json:"-"`
}

// Resolve looks at the host for what a configuration refers to: mount sources
// (made where they are missing), device nodes, profiles.
func Resolve(c *runtimeapi.ContainerConfig, a AppArmor) (Resolved, error) {
	if err := ValidateContainerConfig(c); err != nil {
		return Resolved{}, err
	}
	var r Resolved
	var err error
	if r.Mounts, err = PrepareMounts(c.GetMounts()); err != nil {
		return Resolved{}, err
	}
	if r.Devices, err = findDevices(c.GetDevices()); err != nil {
		return Resolved{}, err
	}
	sc := c.GetLinux().GetSecurityContext()
	if sc.GetPrivileged() {
		if r.HostDevices, err = hostDevices(); err != nil {
			return Resolved{}, err
		}
	} else if p, err := seccompProfile(sc); err != nil {
		return Resolved{}, err
	} else if p.GetProfileType() == runtimeapi.SecurityProfile_Localhost {
		if r.SeccompProfile, err = readProfile(p.GetLocalhostRef()); err != nil {
			return Resolved{}, fmt.Errorf("linux.security_context.seccomp: %w", err)
		}
	}
	if r.AppArmorProfile, err = findAppArmor(sc, a); err != nil {
		return Resolved{}, err
	}
	return r, nil
}

func readProfile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hold us up
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, kindOf(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxProfile+1))
	if err != nil { // a directory
		return nil, fmt.Errorf("%w: %w", err, kindOf(err))
	}
	if len(text) > maxProfile {
		return nil, fmt.Errorf("%s is larger than %d bytes: %w", path, maxProfile, errdefs.ErrInvalidArgument)
	}
	return text, nil
}

// kindOf says whose fault a failed look at a path of the request is.
func kindOf(err error) error {
	if os.IsNotExist(err) {
		return errdefs.ErrNotFound
	}
	return errdefs.ErrFailedPrecondition
}
