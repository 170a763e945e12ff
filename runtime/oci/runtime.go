package oci

import (
	"context"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Runtime makes processes of prepared containers and execs. The caller becomes
// the parent of what is started and is the one that waits for it.
type Runtime interface {
	// Start returns when the user's program runs, else with a *StepError (or
	// the context's error) and without a process.
	Start(ctx context.Context, s Start) (*Process, error)
}

// Prepared is what was known before the start: a spec, translated. Everything
// but the plan is for the launcher.
type Prepared struct {
	Plan        []byte      `json:"-"` // opaque to everybody but the runtime's own program
	Join        []Namespace `json:"join,omitempty"`
	CloneFlags  uintptr     `json:"cloneFlags,omitempty"` // CLONE_NEW* of namespaces that start with the process
	Terminal    bool        `json:"terminal,omitempty"`
	UID         uint32      `json:"uid,omitempty"` // host ids that own the stdio FIFOs and the terminal
	GID         uint32      `json:"gid,omitempty"`
	OOMScoreAdj *int        `json:"oomScoreAdj,omitempty"`

	// Outside: a part of the plan is done by a second process, that stays in the
	// host's user namespace.
	Outside bool `json:"outside,omitempty"`
	// External is the program that runs the container in berth-init's place; nil
	// for the embedded runtime.
	External *External `json:"external,omitempty"`

	// Hooked is what the container's hooks are told; nil when it has none, or a
	// runtime that runs them itself.
	Hooked *Bundle `json:"hooked,omitempty"`

	// HardLimits are those that the process itself, in a user namespace, has no
	// right to raise.
	HardLimits []HardLimit `json:"hardLimits,omitempty"`
}

// Bundle is a container and the directory that has its config.json.
type Bundle struct {
	ID  string `json:"id"`
	Dir string `json:"dir"`
}

// External is a container as a runtime that is a program of its own knows it.
type External struct {
	Handler string `json:"handler"` // its name in the configuration
	Program string `json:"program"`
	Root    string `json:"root"` // where it keeps its state (--root)
	Area    string `json:"area"` // see package external
	ID      string `json:"id"`
	Bundle  string `json:"bundle"`
	// ExecCgroup: exec can be told a cgroup below the container's, of one name in
	// all hierarchies. Otherwise the process is moved there when it runs.
	ExecCgroup bool `json:"execCgroup,omitempty"`
}

// HardLimit is a hard resource limit (setrlimit(2)).
type HardLimit struct {
	Resource int    `json:"resource"`
	Limit    uint64 `json:"limit"`
}

// Namespace is an existing namespace that the process starts in.
type Namespace struct {
	Type specs.LinuxNamespaceType `json:"type"`
	Path string                   `json:"path"`
}

// Placement says in which cgroups the process runs, from its first instruction
// of the plan on.
type Placement struct {
	// V2Dir is a directory of cgroup2, in which the process is born. Empty
	// where there is no cgroup2.
	V2Dir string `json:"v2Dir,omitempty"`
	// Procs are cgroup.procs files that the process is written to before it
	// does anything: one for each hierarchy of cgroup v1.
	Procs []string `json:"procs,omitempty"`
}

// Start is one process to be started. The files stay the caller's.
type Start struct {
	Prepared Prepared  // Prepared.Plan is not read
	Plan     *os.File  // the plan, read from its start whatever its offset is
	Cgroup   Placement // empty: where the caller is

	// Standard streams; nil is /dev/null. With Prepared.Terminal they are not
	// used. The process gets them in blocking mode, so an open file description
	// must not be shared with a reader or writer that needs the other mode.
	Stdin, Stdout, Stderr *os.File

	// TargetPidfd is the process whose namespaces an exec joins, nil otherwise.
	TargetPidfd *os.File
}

// Process is a running process. The caller owns the files.
type Process struct {
	Pid       int      // in the caller's PID namespace
	StartTime uint64   // clock ticks since boot, as in /proc/PID/stat
	Pidfd     *os.File // non-blocking, so Go's poller can wait on it
	Console   *os.File // the terminal's master, nil without a terminal

	// OOMScoreAdj is the value that was set in place of Prepared.OOMScoreAdj,
	// nil when that one was set: a process without CAP_SYS_RESOURCE cannot give
	// a lower one than its own.
	OOMScoreAdj *int

	// Warning is what went wrong and keeps nothing from running; nil for nothing.
	Warning error
}
