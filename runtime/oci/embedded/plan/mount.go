package plan

// Every path below is one inside the container, and is resolved in its root:
// a symbolic link of the image never leads out of it. A target that is missing
// is made.

// Change is a call of mount_setattr(2).
type Change struct {
	Recursive   bool
	Set, Clear  uint64 // MOUNT_ATTR_*
	Propagation uint64 // MS_*, 0 for none
}

// Mount makes a file system and mounts it.
type Mount struct {
	Type, Source, Target string
	Options              []string // "key" or "key=value", of the file system
	Attributes           uint64   // MOUNT_ATTR_*
	Changes              []Change
	InProc               bool   // the target may be in procfs
	PlainTarget          bool   // the target must not be reached through a symbolic link
	Label                string // SELinux's, of its root directory
}

// Bind mounts a file or directory of the host.
type Bind struct {
	Source, Target string
	Recursive      bool
	Changes        []Change
	InProc         bool
}

// Layers mounts an image that is not the root: one directory as it is, several
// over each other, read-only.
type Layers struct {
	Lower   []string // directories of the host, topmost first
	SubPath string   // a file or directory in them; empty: everything
	Target  string
	Options []string // of the overlay
	Changes []Change
}

// CgroupV1 mounts a view of cgroup v1: a tmpfs with the process's own cgroup of
// each hierarchy.
type CgroupV1 struct {
	Target      string
	Attributes  uint64
	Hierarchies []Hierarchy
	Links       []Symlink
}

// Hierarchy is a mounted cgroup hierarchy of the host.
type Hierarchy struct {
	Name  string // the directory in the view
	Mount string // where it is mounted on the host
	Root  string // which cgroup that mount begins with
	Key   string // its name in /proc/self/cgroup
}

// Device makes a device node, or binds the host's where making one is refused.
type Device struct {
	Path         string
	Mode         uint32 // type and permissions
	Major, Minor uint32
	UID, GID     uint32
}

// Symlink makes a symbolic link, unless something is there.
type Symlink struct{ Path, Target string }

// File makes a file with a content.
type File struct {
	Path string
	Mode uint32
	Data []byte
}

// MakeDir makes a directory and its parents, where they are missing.
type MakeDir struct{ Path string }

// ReadonlyPath makes what is at the path read-only, if something is.
type ReadonlyPath struct{ Path string }

// MaskedPath hides what is at the path, if something is. Options are those of the
// empty file system that hides a directory.
type MaskedPath struct {
	Path    string
	Options []string
}

// ReadonlyMount makes the mount at the path read-only, but not those below it.
type ReadonlyMount struct{ Path string }

func (s *Mount) String() string         { return "mount " + s.Target }
func (s *Bind) String() string          { return "mount " + s.Target }
func (s *Layers) String() string        { return "mount " + s.Target }
func (s *CgroupV1) String() string      { return "mount " + s.Target }
func (s *Device) String() string        { return "device " + s.Path }
func (s *Symlink) String() string       { return "symlink " + s.Path }
func (s *File) String() string          { return "file " + s.Path }
func (s *MakeDir) String() string       { return "directory " + s.Path }
func (s *ReadonlyPath) String() string  { return "read-only path " + s.Path }
func (s *MaskedPath) String() string    { return "masked path " + s.Path }
func (s *ReadonlyMount) String() string { return "read-only mount " + s.Path }

func (*Mount) op() op         { return opMount }
func (*Bind) op() op          { return opBind }
func (*Layers) op() op        { return opLayers }
func (*CgroupV1) op() op      { return opCgroupV1 }
func (*Device) op() op        { return opDevice }
func (*Symlink) op() op       { return opSymlink }
func (*File) op() op          { return opFile }
func (*MakeDir) op() op       { return opMakeDir }
func (*ReadonlyPath) op() op  { return opReadonlyPath }
func (*MaskedPath) op() op    { return opMaskedPath }
func (*ReadonlyMount) op() op { return opReadonlyMount }

func (s *Mount) fields(c *codec) {
	text(c, &s.Type)
	text(c, &s.Source)
	text(c, &s.Target)
	list(c, &s.Options, text)
	number(c, &s.Attributes)
	list(c, &s.Changes, change)
	flag(c, &s.InProc)
	flag(c, &s.PlainTarget)
	text(c, &s.Label)
}

func (s *Bind) fields(c *codec) {
	text(c, &s.Source)
	text(c, &s.Target)
	flag(c, &s.Recursive)
	list(c, &s.Changes, change)
	flag(c, &s.InProc)
}

func (s *Layers) fields(c *codec) {
	list(c, &s.Lower, text)
	text(c, &s.SubPath)
	text(c, &s.Target)
	list(c, &s.Options, text)
	list(c, &s.Changes, change)
}

func change(c *codec, v *Change) {
	flag(c, &v.Recursive)
	number(c, &v.Set)
	number(c, &v.Clear)
	number(c, &v.Propagation)
}

func (s *CgroupV1) fields(c *codec) {
	text(c, &s.Target)
	number(c, &s.Attributes)
	list(c, &s.Hierarchies, hierarchy)
	list(c, &s.Links, symlink)
}

func hierarchy(c *codec, v *Hierarchy) {
	text(c, &v.Name)
	text(c, &v.Mount)
	text(c, &v.Root)
	text(c, &v.Key)
}

func symlink(c *codec, v *Symlink) { v.fields(c) }

func (s *Device) fields(c *codec) {
	text(c, &s.Path)
	number(c, &s.Mode)
	number(c, &s.Major)
	number(c, &s.Minor)
	number(c, &s.UID)
	number(c, &s.GID)
}

func (s *Symlink) fields(c *codec) {
	text(c, &s.Path)
	text(c, &s.Target)
}

func (s *File) fields(c *codec) {
	text(c, &s.Path)
	number(c, &s.Mode)
	octets(c, &s.Data)
}

func (s *MakeDir) fields(c *codec)       { text(c, &s.Path) }
func (s *ReadonlyPath) fields(c *codec)  { text(c, &s.Path) }
func (s *ReadonlyMount) fields(c *codec) { text(c, &s.Path) }

func (s *MaskedPath) fields(c *codec) {
	text(c, &s.Path)
	list(c, &s.Options, text)
}
