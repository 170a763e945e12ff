package monitor

import (
	"encoding/json"
	"os"
	"time"

	"github.com/berth-cri/berth/runtime/monitor/logs"
	"github.com/berth-cri/berth/runtime/oci"
)

// Protocol is the version of the messages below. A monitor of another version
// answers "hello" (with its own version) and "upgrade", and refuses the rest.
const Protocol = 1

const (
	maxMessage = 64 << 10 // bytes of one message
	maxFiles   = 8        // descriptors with one message
	listPage   = 64       // containers in one answer to "list"
)

// envelope is one message. A request has an ID and an Op, its answer the same
// ID and no Op, an event an Op and no ID. Files names the descriptors that came
// with the message, in their order.
type envelope struct {
	ID    uint64          `json:"id,omitempty"`
	Op    string          `json:"op,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
	Error *wireError      `json:"error,omitempty"`
	Files []string        `json:"files,omitempty"`
}

// The operations, with body and files of request and answer.
const (
	opHello      = "hello"      // hello → hello
	opStart      = "start"      // StartRequest + plan → Started + pidfd [console]
	opAdopt      = "adopt"      // AdoptRequest [+ pidfd, console] → {}
	opExec       = "exec"       // ExecRequest + plan [stdin, stdout, stderr] → Started + pidfd [console]
	opReopen     = "reopen"     // target → {}
	opCloseStdin = "closestdin" // target → {}
	opKill       = "kill"       // KillRequest → {}
	opTake       = "take"       // target → {} + pidfd [console]
	opList       = "list"       // listRequest → listAnswer
	opForget     = "forget"     // target → {}
	opAttach     = "attach"     // AttachRequest + wake [stdout, stderr] → {}
	opDetach     = "detach"     // target, of an attachment → {}
	opCancel     = "cancel"     // cancelRequest, no answer: the start or exec answers with an error
	opUpgrade    = "upgrade"    // upgradeRequest → the connection closes, or an error
	eventExit    = "exit"       // Exit: to every client for a container, to the owner for an exec
)

// Names of passed descriptors.
const (
	filePlan    = "plan"
	fileStdin   = "stdin"
	fileStdout  = "stdout"
	fileStderr  = "stderr"
	filePidfd   = "pidfd"
	fileConsole = "console"
	fileWake    = "wake"
)

type hello struct {
	Protocol int    `json:"protocol"`
	Build    string `json:"build"`
	Pid      int    `json:"pid,omitempty"`
}

type target struct {
	ID string `json:"id"`
}

// StartRequest starts the container of a directory that holds its FIFOs
// (MakeFIFOs). Without Log the output is read and thrown away.
type StartRequest struct {
	ID         string        `json:"id"`
	Dir        string        `json:"dir"`
	Prepared   oci.Prepared  `json:"prepared"` // without the plan's bytes
	PlanFile   *os.File      `json:"-"`
	Cgroup     oci.Placement `json:"cgroup"`
	KillCgroup string        `json:"killCgroup,omitempty"` // directory of the cgroup that Kill empties
	Log        string        `json:"log,omitempty"`
	Stdin      bool          `json:"stdin,omitempty"`  // false: /dev/null
	Silent     bool          `json:"silent,omitempty"` // no pipes: all three streams are /dev/null
	Trace      string        `json:"trace,omitempty"`  // of the request that this belongs to, for the log
}

// Started is a running process. The caller owns the files; Console is nil
// without a terminal.
type Started struct {
	Pid       int       `json:"pid"`
	StartTime uint64    `json:"startTime"` // of /proc/PID/stat
	At        time.Time `json:"at"`
	Pidfd     *os.File  `json:"-"`
	Console   *os.File  `json:"-"`

	// OOMScoreAdj is the value that was set in place of the wanted one, which
	// the host does not allow; nil otherwise.
	OOMScoreAdj *int `json:"oomScoreAdj,omitempty"`

	// Steps of a container's start, for who measures it.
	Steps []StepTime `json:"steps,omitempty"`
}

// StepTime is how long a step in the monitor took.
type StepTime struct {
	Name string        `json:"name"` // prepare: pipes and log; init: fork to the program's execve
	At   time.Time     `json:"at"`
	Took time.Duration `json:"took"`
}

// AdoptRequest hands a running container to a new monitor. Pidfd and Console
// are what Started gave; they stay the caller's. A daemon that has lost them
// with its own death leaves them nil: the descriptor store has them.
type AdoptRequest struct {
	ID         string    `json:"id"`
	Dir        string    `json:"dir"`
	Pid        int       `json:"pid"`
	StartTime  uint64    `json:"startTime"`
	At         time.Time `json:"at"`
	Pidfd      *os.File  `json:"-"`
	Console    *os.File  `json:"-"`
	Terminal   bool      `json:"terminal,omitempty"`
	KillCgroup string    `json:"killCgroup,omitempty"`
	Log        string    `json:"log,omitempty"`
	Stdin      bool      `json:"stdin,omitempty"` // still open
	Silent     bool      `json:"silent,omitempty"`
}

// ExecRequest runs a process in a running container. The descriptors go
// straight to the process; a nil one is /dev/null. With Prepared.Terminal there
// are none and the answer has the console.
type ExecRequest struct {
	ContainerID string        `json:"containerID"`
	ID          string        `json:"id"`
	Prepared    oci.Prepared  `json:"prepared"`
	Plan        *os.File      `json:"-"`
	Cgroup      oci.Placement `json:"cgroup"`
	KillCgroup  string        `json:"killCgroup,omitempty"` // everything in it dies at the deadline
	Stdin       *os.File      `json:"-"`
	Stdout      *os.File      `json:"-"`
	Stderr      *os.File      `json:"-"`
	Timeout     time.Duration `json:"timeout,omitempty"` // 0: none; from the start of the process
	Tied        bool          `json:"tied,omitempty"`    // dies with the connection of its client
}

// KillRequest sends Signal (once in the container's life, however often it is
// asked for; 0: none) and after the wait kills everything in KillCgroup. A later
// request may only shorten the wait; After 0 kills now.
type KillRequest struct {
	ID     string        `json:"id"`
	Signal int           `json:"signal,omitempty"`
	After  time.Duration `json:"after"`
}

// AttachRequest asks for a copy of what a container prints from now on. Each
// wanted stream is written into a file that came with the request, and a byte
// into the pipe "wake" says that there is more. At the end, which may also be
// that of the client's connection or that it lags too far behind, a wireError
// follows (or null), and the pipe is closed.
type AttachRequest struct {
	ContainerID string `json:"containerID"`
	ID          string `json:"id"`

	wake, stdout, stderr *os.File
}

type listRequest struct {
	After string `json:"after,omitempty"` // ids greater than this, sorted
}

type listAnswer struct {
	Containers []Container `json:"containers"`
	More       bool        `json:"more,omitempty"`
}

// Container is one line of List.
type Container struct {
	ID        string      `json:"id"`
	Dir       string      `json:"dir"`
	Pid       int         `json:"pid"`
	StartTime uint64      `json:"startTime"`
	At        time.Time   `json:"at"`
	Log       string      `json:"log,omitempty"`
	Terminal  bool        `json:"terminal,omitempty"`
	Stdin     bool        `json:"stdin,omitempty"` // open
	Output    logs.Status `json:"output"`
	Exit      *Exit       `json:"exit,omitempty"` // nil: running
}

type cancelRequest struct {
	Request uint64 `json:"request"`
}

type upgradeRequest struct {
	Path string `json:"path"` // of the new berth-monitor
	Init string `json:"init"` // and of its berth-init
}
