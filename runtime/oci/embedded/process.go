package embedded

import (
	"path/filepath"
	"slices"
	"strconv"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
	"github.com/berth-cri/berth/runtime/oci/embedded/seccomp"
)

// process is the end of every plan: from a process of root, that stands in its
// namespaces, to the user's program.
//
// The order is forced. Limits and everything that needs a capability come before
// the change of user; the bounding set before that too, because CAP_SETPCAP goes
// with it; the program is looked up as the user, in its directory. The filter
// comes as late as it can, so that it need not allow what is done here. Without
// no_new_privs, loading it needs CAP_SYS_ADMIN: then it comes before the
// capabilities go, and has to allow what follows (runc's order).
func (c *compilation) process(p *specs.Process) error {
	if !filepath.IsAbs(p.Cwd) {
		return invalid("process.cwd", "is not an absolute path")
	}
	if len(p.Args) == 0 {
		return invalid("process.args", "is empty")
	}
	if p.CommandLine != "" {
		return unsupported("process.commandLine")
	}
	if p.ExecCPUAffinity != nil {
		return unsupported("process.execCPUAffinity")
	}
	filter, err := c.filter()
	if err != nil {
		return err
	}
	c.add(&plan.Session{})
	for _, part := range []func(*specs.Process) error{c.labels, c.scheduling, c.oomScore} {
		if err := part(p); err != nil {
			return err
		}
	}
	if p.NoNewPrivileges {
		c.add(&plan.NoNewPrivileges{})
	} else if filter != nil {
		c.add(filter)
	}
	if err := c.rlimits(p); err != nil {
		return err
	}
	if err := c.credentials(p); err != nil {
		return err
	}
	c.add(&plan.Program{Args: p.Args, Env: p.Env})
	if p.NoNewPrivileges && filter != nil {
		c.add(filter)
	}
	c.add(&plan.Exec{})
	return nil
}

func (c *compilation) credentials(p *specs.Process) error {
	caps := p.Capabilities
	if caps == nil {
		caps = &specs.LinuxCapabilities{}
	}
	var sets [5]uint64
	for i, names := range [][]string{caps.Bounding, caps.Effective, caps.Permitted, caps.Inheritable, caps.Ambient} {
		for _, name := range names {
			n, ok := plan.Capability(name)
			if !ok {
				return invalid("process.capabilities", "has "+name+", which is not known")
			}
			sets[i] |= 1 << n
		}
	}
	umask := uint32(0o022)
	if p.User.Umask != nil {
		umask = *p.User.Umask
	}
	if umask > 0o777 {
		return invalid("process.user.umask", "is "+strconv.FormatUint(uint64(umask), 8))
	}
	var err error
	if c.prepared.UID, c.prepared.GID, err = c.owner("process.user", p.User.UID, p.User.GID); err != nil {
		return err
	}
	c.add(
		&plan.Bounding{Set: sets[0]},
		&plan.Chdir{Path: filepath.Clean(p.Cwd)},
		&plan.User{UID: p.User.UID, GID: p.User.GID, Groups: p.User.AdditionalGids},
		&plan.Capabilities{Effective: sets[1], Permitted: sets[2], Inheritable: sets[3], Ambient: sets[4]},
		&plan.Umask{Mask: umask},
	)
	return nil
}

func (c *compilation) rlimits(p *specs.Process) error {
	var seen []string
	for _, r := range p.Rlimits {
		n, ok := plan.RlimitNumber(r.Type)
		switch {
		case !ok:
			return invalid("process.rlimits", "has "+r.Type+", which is not known")
		case slices.Contains(seen, r.Type):
			return invalid("process.rlimits", "has "+r.Type+" twice")
		case r.Soft > r.Hard:
			return invalid("process.rlimits: "+r.Type, "has a soft limit above the hard one")
		}
		seen = append(seen, r.Type)
		if c.user != nil { // where no process has the right to raise it
			c.prepared.HardLimits = append(c.prepared.HardLimits, HardLimit{Resource: n, Limit: r.Hard})
		}
		c.add(&plan.Rlimit{Resource: uint32(n), Soft: r.Soft, Hard: r.Hard})
	}
	return nil
}

func (c *compilation) oomScore(p *specs.Process) error {
	if adj := p.OOMScoreAdj; adj != nil {
		if *adj < -1000 || *adj > 1000 {
			return invalid("process.oomScoreAdj", "is "+strconv.Itoa(*adj))
		}
		c.prepared.OOMScoreAdj = adj
	}
	return nil
}

// filter is nil when there is none.
func (c *compilation) filter() (plan.Step, error) {
	if c.spec.Linux.Seccomp == nil {
		return nil, nil
	}
	p, err := seccomp.Compile(c.spec.Linux.Seccomp)
	if err != nil {
		return nil, in("linux.seccomp", err)
	}
	if len(p.Filter) == 0 {
		return nil, nil
	}
	size := len(p.Filter) * int(unsafe.Sizeof(p.Filter[0]))
	return &plan.Seccomp{Flags: uint64(p.Flags), Filter: unsafe.Slice((*byte)(unsafe.Pointer(&p.Filter[0])), size)}, nil
}

// terminal makes one in the container's devpts.
func (c *compilation) terminal(p *specs.Process, console bool) error {
	if !p.Terminal {
		return nil
	}
	t := &plan.Terminal{UID: p.User.UID, Console: console}
	if s := p.ConsoleSize; s != nil {
		if s.Height > 0xffff || s.Width > 0xffff {
			return invalid("process.consoleSize", "is too large")
		}
		t.Rows, t.Columns = uint16(s.Height), uint16(s.Width)
	}
	c.prepared.Terminal = true
	c.add(t)
	return nil
}

// inherit fills in what an exec leaves to the container, as runc does.
func (c *compilation) inherit(p specs.Process) *specs.Process {
	if c.spec == nil || c.spec.Process == nil {
		return &p // refused later
	}
	from := c.spec.Process
	if p.Capabilities == nil {
		p.Capabilities = from.Capabilities
	}
	if p.Rlimits == nil {
		p.Rlimits = from.Rlimits
	}
	if p.ApparmorProfile == "" {
		p.ApparmorProfile = from.ApparmorProfile
	}
	if p.SelinuxLabel == "" {
		p.SelinuxLabel = from.SelinuxLabel
	}
	if p.OOMScoreAdj == nil {
		p.OOMScoreAdj = from.OOMScoreAdj
	}
	if p.Scheduler == nil {
		p.Scheduler = from.Scheduler
	}
	if p.IOPriority == nil {
		p.IOPriority = from.IOPriority
	}
	p.NoNewPrivileges = p.NoNewPrivileges || from.NoNewPrivileges
	return &p
}
