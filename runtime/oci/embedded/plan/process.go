package plan

// Terminal makes a pseudo terminal of the container's own devpts and sends its
// master over the control socket.
type Terminal struct {
	Rows, Columns uint16 // 0: the kernel's default
	UID           uint32 // its owner
	Console       bool   // also mount it on /dev/console
}

// Pause tells the launcher, and waits until it says to go on.
type Pause struct{ Stage uint32 }

// Session makes the process the leader of a new session, with the terminal, if
// there is one, as its controlling terminal and standard streams.
type Session struct{}

// ExecLabel sets what a security module gives to the next program; Path is
// below /proc/self/attr.
type ExecLabel struct{ Path, Value string }

// Scheduler is sched_setattr(2).
type Scheduler struct {
	Policy                    uint32
	Flags                     uint64
	Nice                      int32
	Priority                  uint32
	Runtime, Deadline, Period uint64
}

// IOPriority is ioprio_set(2).
type IOPriority struct{ Value uint32 }

// Personality is personality(2).
type Personality struct{ Value uint32 }

// NoNewPrivileges makes set-uid programs and file capabilities powerless.
type NoNewPrivileges struct{}

// Seccomp loads a filter: struct sock_filter as it lies in memory.
type Seccomp struct {
	Flags  uint64
	Filter []byte
}

// Rlimit sets a resource limit.
type Rlimit struct {
	Resource   uint32
	Soft, Hard uint64
}

// Bounding takes every capability that is not in the set out of the bounding set.
type Bounding struct{ Set uint64 }

// Chdir changes to a directory of the container. One that root may not enter is
// tried again by User.
type Chdir struct{ Path string }

// User changes the user and the groups, keeping the permitted capabilities.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

// Capabilities sets the other four sets.
type Capabilities struct{ Effective, Permitted, Inheritable, Ambient uint64 }

// Umask sets the file mode creation mask.
type Umask struct{ Mask uint32 }

// Program finds the program to run.
type Program struct {
	Args, Env []string
	// KeepSignals are signals that the program finds blocked, and IgnoreChildren
	// lets the kernel reap for it: both survive execve.
	KeepSignals    uint64
	IgnoreChildren bool
}

// Exec becomes the program.
type Exec struct{}

func (*Terminal) String() string        { return "terminal" }
func (*Pause) String() string           { return "hooks" }
func (*Session) String() string         { return "session" }
func (s *ExecLabel) String() string     { return "security label " + s.Value }
func (*Scheduler) String() string       { return "scheduler" }
func (*IOPriority) String() string      { return "io priority" }
func (*Personality) String() string     { return "personality" }
func (*NoNewPrivileges) String() string { return "no new privileges" }
func (*Seccomp) String() string         { return "seccomp" }
func (s *Rlimit) String() string        { return "rlimit " + rlimitName(s.Resource) }
func (*Bounding) String() string        { return "capabilities" }
func (s *Chdir) String() string         { return "working directory " + s.Path }
func (*User) String() string            { return "user" }
func (*Capabilities) String() string    { return "capabilities" }
func (*Umask) String() string           { return "umask" }
func (*Program) String() string         { return "exec" }
func (*Exec) String() string            { return "exec" }

func (*Terminal) op() op        { return opTerminal }
func (*Pause) op() op           { return opPause }
func (*Session) op() op         { return opSession }
func (*ExecLabel) op() op       { return opExecLabel }
func (*Scheduler) op() op       { return opScheduler }
func (*IOPriority) op() op      { return opIOPriority }
func (*Personality) op() op     { return opPersonality }
func (*NoNewPrivileges) op() op { return opNoNewPrivileges }
func (*Seccomp) op() op         { return opSeccomp }
func (*Rlimit) op() op          { return opRlimit }
func (*Bounding) op() op        { return opBounding }
func (*Chdir) op() op           { return opChdir }
func (*User) op() op            { return opUser }
func (*Capabilities) op() op    { return opCapabilities }
func (*Umask) op() op           { return opUmask }
func (*Program) op() op         { return opProgram }
func (*Exec) op() op            { return opExec }

func (s *Terminal) fields(c *codec) {
	number(c, &s.Rows)
	number(c, &s.Columns)
	number(c, &s.UID)
	flag(c, &s.Console)
}

func (s *Pause) fields(c *codec) { number(c, &s.Stage) }

func (*Session) fields(*codec) {}

func (s *ExecLabel) fields(c *codec) {
	text(c, &s.Path)
	text(c, &s.Value)
}

func (s *Scheduler) fields(c *codec) {
	number(c, &s.Policy)
	number(c, &s.Flags)
	number(c, &s.Nice)
	number(c, &s.Priority)
	number(c, &s.Runtime)
	number(c, &s.Deadline)
	number(c, &s.Period)
}

func (s *IOPriority) fields(c *codec)  { number(c, &s.Value) }
func (s *Personality) fields(c *codec) { number(c, &s.Value) }
func (*NoNewPrivileges) fields(*codec) {}
func (s *Bounding) fields(c *codec)    { number(c, &s.Set) }
func (s *Chdir) fields(c *codec)       { text(c, &s.Path) }
func (s *Umask) fields(c *codec)       { number(c, &s.Mask) }
func (*Exec) fields(*codec)            {}

func (s *Seccomp) fields(c *codec) {
	number(c, &s.Flags)
	octets(c, &s.Filter)
}

func (s *Rlimit) fields(c *codec) {
	number(c, &s.Resource)
	number(c, &s.Soft)
	number(c, &s.Hard)
}

func (s *User) fields(c *codec) {
	number(c, &s.UID)
	number(c, &s.GID)
	list(c, &s.Groups, number[uint32])
}

func (s *Capabilities) fields(c *codec) {
	number(c, &s.Effective)
	number(c, &s.Permitted)
	number(c, &s.Inheritable)
	number(c, &s.Ambient)
}

func (s *Program) fields(c *codec) {
	list(c, &s.Args, text)
	list(c, &s.Env, text)
	number(c, &s.KeepSignals)
	flag(c, &s.IgnoreChildren)
}
