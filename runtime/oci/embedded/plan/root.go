package plan

// Keyring gives the process a session keyring of its own.
type Keyring struct{}

// Propagate sets the propagation (MS_*) of every mount of the new mount
// namespace, and so whether the host and the container see each other's mounts.
type Propagate struct{ Flags uint64 }

// RootOverlay makes an overlay the root. Options are further ones of its mount.
type RootOverlay struct {
	Lower       []string // topmost first
	Upper, Work string
	Volatile    bool
	Options     []string
}

// RootBind makes a directory the root.
type RootBind struct{ Source string }

// RootTmpfs makes an empty tmpfs the root.
type RootTmpfs struct{ Options []string }

// RememberCgroups reads in which cgroups the process is, as long as it can see
// that; CgroupV1 needs it.
type RememberCgroups struct{}

// CgroupNamespace makes the process's cgroups the roots of what it sees.
type CgroupNamespace struct{}

// Join enters namespaces (CLONE_NEW*) of the target process, and its root with them.
type Join struct{ Flags uint64 }

// Loopback sets the loopback device of a new network namespace up.
type Loopback struct{}

// Sysctl sets a kernel parameter; Path is below /proc/sys.
type Sysctl struct{ Path, Value string }

// Hostname sets the host name of the UTS namespace.
type Hostname struct{ Name string }

// Domainname sets the NIS domain name of the UTS namespace.
type Domainname struct{ Name string }

// PivotRoot makes the root the root, and lets go of the host's mounts. A
// propagation other than 0 is then set on the root.
type PivotRoot struct{ Propagation uint64 }

func (*Keyring) String() string         { return "session keyring" }
func (*Propagate) String() string       { return "mount propagation" }
func (*RootOverlay) String() string     { return "mount the root file system" }
func (*RootBind) String() string        { return "mount the root file system" }
func (*RootTmpfs) String() string       { return "mount the root file system" }
func (*RememberCgroups) String() string { return "read the own cgroups" }
func (*CgroupNamespace) String() string { return "cgroup namespace" }
func (*Join) String() string            { return "join the container" }
func (*Loopback) String() string        { return "loopback device" }
func (s *Sysctl) String() string        { return "sysctl " + s.Path }
func (*Hostname) String() string        { return "hostname" }
func (*Domainname) String() string      { return "domainname" }
func (*PivotRoot) String() string       { return "pivot root" }

func (*Keyring) op() op         { return opKeyring }
func (*Propagate) op() op       { return opPropagate }
func (*RootOverlay) op() op     { return opRootOverlay }
func (*RootBind) op() op        { return opRootBind }
func (*RootTmpfs) op() op       { return opRootTmpfs }
func (*RememberCgroups) op() op { return opRememberCgroups }
func (*CgroupNamespace) op() op { return opCgroupNamespace }
func (*Join) op() op            { return opJoin }
func (*Loopback) op() op        { return opLoopback }
func (*Sysctl) op() op          { return opSysctl }
func (*Hostname) op() op        { return opHostname }
func (*Domainname) op() op      { return opDomainname }
func (*PivotRoot) op() op       { return opPivotRoot }

func (*Keyring) fields(*codec)         {}
func (s *Propagate) fields(c *codec)   { number(c, &s.Flags) }
func (s *RootBind) fields(c *codec)    { text(c, &s.Source) }
func (s *RootTmpfs) fields(c *codec)   { list(c, &s.Options, text) }
func (*RememberCgroups) fields(*codec) {}
func (*CgroupNamespace) fields(*codec) {}
func (s *Join) fields(c *codec)        { number(c, &s.Flags) }
func (*Loopback) fields(*codec)        {}
func (s *Hostname) fields(c *codec)    { text(c, &s.Name) }
func (s *Domainname) fields(c *codec)  { text(c, &s.Name) }
func (s *PivotRoot) fields(c *codec)   { number(c, &s.Propagation) }
func (s *RootOverlay) fields(c *codec) {
	list(c, &s.Lower, text)
	text(c, &s.Upper)
	text(c, &s.Work)
	flag(c, &s.Volatile)
	list(c, &s.Options, text)
}
func (s *Sysctl) fields(c *codec) {
	text(c, &s.Path)
	text(c, &s.Value)
}
