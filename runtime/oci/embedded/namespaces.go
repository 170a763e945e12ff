package embedded

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// cloneFlag is the CLONE_NEW* of the namespaces that a container can have of its
// own or share.
var cloneFlag = map[specs.LinuxNamespaceType]int{
	specs.MountNamespace:   unix.CLONE_NEWNS,
	specs.PIDNamespace:     unix.CLONE_NEWPID,
	specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.IPCNamespace:     unix.CLONE_NEWIPC,
	specs.UTSNamespace:     unix.CLONE_NEWUTS,
	specs.CgroupNamespace:  unix.CLONE_NEWCGROUP,
}

// namespaces tells the launcher what to join and what to clone. A cgroup
// namespace is made by berth-init: its root is where the process is by then.
func (c *compilation) namespaces() error {
	c.own = map[specs.LinuxNamespaceType]bool{}
	for _, ns := range c.spec.Linux.Namespaces {
		flag, ok := cloneFlag[ns.Type]
		switch {
		case ns.Type == specs.UserNamespace && !c.own[ns.Type]: // see findUser
		case !ok:
			return unsupported("linux.namespaces: type " + string(ns.Type))
		case c.own[ns.Type]:
			return invalid("linux.namespaces", "has type "+string(ns.Type)+" twice")
		case ns.Type == specs.MountNamespace && ns.Path != "":
			return unsupported("linux.namespaces: a mount namespace with a path")
		case ns.Path != "":
			c.prepared.Join = append(c.prepared.Join, Namespace{Type: ns.Type, Path: ns.Path})
		case ns.Type == specs.CgroupNamespace:
		default:
			c.prepared.CloneFlags |= uintptr(flag)
		}
		c.own[ns.Type] = true
	}
	if !c.own[specs.MountNamespace] {
		return unsupported("linux.namespaces: a container without a mount namespace of its own")
	}
	return nil
}

// isNew says whether the container gets a new namespace of the type.
func (c *compilation) isNew(t specs.LinuxNamespaceType) bool {
	for _, j := range c.prepared.Join {
		if j.Type == t {
			return false
		}
	}
	return c.own[t]
}

func (c *compilation) hasNamespace(t specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(c.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t })
}

func (c *compilation) keyring() error {
	if p := c.spec.Process; p != nil && p.SelinuxLabel != "" && hasSELinux() {
		// The program could not use the keyring of another domain. Undone by execve.
		c.add(&plan.ExecLabel{Path: "keycreate", Value: p.SelinuxLabel})
	}
	c.add(&plan.Keyring{})
	return nil
}

// settle does in new namespaces what they begin with.
func (c *compilation) settle() error {
	if c.isNew(specs.NetworkNamespace) {
		c.add(&plan.Loopback{})
	}
	if view, err := c.viewsCgroupV1(); err != nil {
		return err
	} else if view { // before the namespace hides the paths
		c.add(&plan.RememberCgroups{})
	}
	if c.isNew(specs.CgroupNamespace) {
		c.add(&plan.CgroupNamespace{})
	}
	if (c.spec.Hostname != "" || c.spec.Domainname != "") && !c.own[specs.UTSNamespace] {
		return invalid("hostname or domainname", "needs a uts namespace")
	}
	if c.spec.Hostname != "" {
		c.add(&plan.Hostname{Name: c.spec.Hostname})
	}
	if c.spec.Domainname != "" {
		c.add(&plan.Domainname{Name: c.spec.Domainname})
	}
	return nil
}

// sysctls are allowed where a namespace of the container keeps them from the host.
func (c *compilation) sysctls() error {
	for _, key := range sortedKeys(c.spec.Linux.Sysctl) {
		path := sysctlPath(key)
		if why := c.foreignSysctl(path); why != "" {
			return invalid("linux.sysctl: "+key, why)
		}
		c.add(&plan.Sysctl{Path: path, Value: c.spec.Linux.Sysctl[key]})
	}
	return nil
}

// sysctlPath turns a key into a path as sysctl(8) does: whichever of "." and "/"
// comes first separates, and the other one stands for itself.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		return key
	}
	return strings.NewReplacer(".", "/", "/", ".").Replace(key)
}

func (c *compilation) foreignSysctl(path string) string {
	needs := specs.LinuxNamespaceType("")
	switch {
	case path == "kernel/hostname":
		return "is set by hostname"
	case path == "kernel/domainname":
		needs = specs.UTSNamespace
	case strings.HasPrefix(path, "kernel/sem"), strings.HasPrefix(path, "kernel/shm"),
		strings.HasPrefix(path, "kernel/msg"), strings.HasPrefix(path, "fs/mqueue/"):
		needs = specs.IPCNamespace
	case strings.HasPrefix(path, "net/"):
		needs = specs.NetworkNamespace
	default:
		return "is not a namespaced sysctl"
	}
	if !c.own[needs] {
		return "needs a " + string(needs) + " namespace"
	}
	return ""
}
