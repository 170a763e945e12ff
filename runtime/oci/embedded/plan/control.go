package plan

// Descriptors that berth-init finds open, beside the standard streams.
const (
	ControlFd = 3 // the control socket, SOCK_SEQPACKET
	PlanFd    = 4
	TargetFd  = 5 // a pidfd, for an exec only
	TreesFd   = 5 // a socket for what is handed over, for a plan with Outside steps only
)

// Messages on the control socket begin with one of these bytes. The launcher
// sends Go (a Release), once the process may begin. berth-init answers Console (with
// the descriptor), Failed (with a Failure), and Ready before what the seccomp
// filter may forbid it to tell about: after Ready, the end of the socket means
// that the program runs.
const (
	Go      = 'g'
	Console = 'c'
	Failed  = 'f'
	Ready   = 'r'
	Paused  = 'p' // and the stage, one byte; Go is the answer
)

// MaxMessage bounds a message on the control socket.
const MaxMessage = 4096

// Release lets berth-init begin.
type Release struct {
	// Tasks are files of cgroup v1 that berth-init joins by, first of all.
	Tasks []string
	// Outside makes it do the Outside steps and nothing else.
	Outside bool
}

// Append adds the bytes of the message.
func (r Release) Append(b []byte) ([]byte, error) {
	c := &codec{buf: append(b, Go)}
	list(c, &r.Tasks, text)
	flag(c, &r.Outside)
	if len(c.buf) > MaxMessage {
		return nil, Error("the paths of the cgroups are too long")
	}
	return c.buf, nil
}

// ParseRelease reads a message that begins with Go.
func ParseRelease(b []byte) (r Release, ok bool) {
	if len(b) == 0 || b[0] != Go {
		return r, false
	}
	c := &codec{buf: b[1:], reading: true}
	list(c, &r.Tasks, text)
	flag(c, &r.Outside)
	return r, !c.bad && len(c.buf) == 0
}

// Failure is why a plan could not be carried out.
type Failure struct {
	Step   string
	Errno  uint32
	Detail string // in words; may be empty
}

// Append adds the bytes of the message. Texts that would not fit are cut.
func (f Failure) Append(b []byte) []byte {
	const limit = MaxMessage/2 - 16
	f.Step, f.Detail = f.Step[:min(len(f.Step), limit)], f.Detail[:min(len(f.Detail), limit)]
	c := &codec{buf: append(b, Failed)}
	f.fields(c)
	return c.buf
}

// ParseFailure reads a message that begins with Failed.
func ParseFailure(b []byte) (f Failure, ok bool) {
	if len(b) == 0 || b[0] != Failed {
		return f, false
	}
	c := &codec{buf: b[1:], reading: true}
	f.fields(c)
	return f, !c.bad && len(c.buf) == 0
}

func (f *Failure) fields(c *codec) {
	text(c, &f.Step)
	number(c, &f.Errno)
	text(c, &f.Detail)
}
