package embedded

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// Compile translates the spec of a container. The root file system is the
// overlay or, when that has no layers, the directory of spec.Root.
//
// linux.resources, linux.cgroupsPath (the business of runtime/cgroup),
// annotations and the name of the user (informational) add nothing to a plan.
func Compile(spec *specs.Spec, root Overlay) (Prepared, error) {
	c := &compilation{spec: spec}
	return c.run(
		c.refuse,
		c.findUser,
		c.namespaces,
		c.keyring,
		c.propagation,
		c.openUser,
		func() error { return c.root(root) },
		c.sysctls,
		c.settle,
		c.mounts,
		c.devices,
		func() error { return c.terminal(spec.Process, true) },
		c.workingDirectory,
		c.hiddenPaths,
		c.createHooks, // may change what is mounted, as long as it can be
		c.readonlyMounts,
		c.pivot,
		c.startHooks,
		func() error { return c.process(spec.Process) },
	)
}

// CompileExec translates an exec of process p into the running container that
// was made from spec. What p leaves out of capabilities, limits, labels,
// scheduling and oom score is that of the container.
func CompileExec(spec *specs.Spec, p *specs.Process) (Prepared, error) {
	c := &compilation{spec: spec}
	if p == nil {
		return Prepared{}, invalid("process", "is missing")
	}
	p = c.inherit(*p)
	return c.run(
		c.refuse,
		c.findUser,
		c.keyring,
		func() error {
			// The other namespaces were joined by the launcher's thread.
			flags := uint64(unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP)
			if c.user != nil && !c.hasNamespace(specs.CgroupNamespace) {
				flags = unix.CLONE_NEWNS // it has no right to the host's, though it is there
			}
			c.add(&plan.Join{Flags: flags})
			return nil
		},
		func() error { return c.terminal(p, false) },
		func() error { return c.process(p) },
	)
}

// compilation is a plan in the making.
type compilation struct {
	spec     *specs.Spec
	user     *userNamespace                    // nil: the host's
	own      map[specs.LinuxNamespaceType]bool // namespaces that are not the host's
	readonly []string                          // mounts that become read-only at the end
	steps    []plan.Step

	devOutside bool // /dev is made outside of the user namespace

	prepared Prepared
}

func (c *compilation) add(s ...plan.Step) { c.steps = append(c.steps, s...) }

func (c *compilation) run(parts ...func() error) (Prepared, error) {
	for _, part := range parts {
		if err := part(); err != nil {
			return Prepared{}, fmt.Errorf("compile the spec: %w", err)
		}
	}
	return c.finish()
}

func (c *compilation) finish() (Prepared, error) {
	b, err := plan.Encode(c.steps)
	if err != nil {
		return Prepared{}, fmt.Errorf("compile the spec: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	c.prepared.Plan = b
	return c.prepared, nil
}

func invalid(field, why string) error {
	return fmt.Errorf("%s %s: %w", field, why, errdefs.ErrInvalidArgument)
}

func unsupported(field string) error {
	return fmt.Errorf("%s is not supported by the embedded runtime: %w", field, errdefs.ErrNotImplemented)
}

func in(where string, err error) error { return fmt.Errorf("%s: %w", where, err) }
