package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/berth-cri/berth/runtime/oci/embedded"
	"github.com/berth-cri/berth/runtime/selinux"
	"github.com/berth-cri/berth/runtime/stats"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// recordVersion is the version of container.json and status.json; a reader
// refuses another one.
const recordVersion = 1

// Record is container.json: fixed when the container is created.
type Record struct {
	Version    int                         `json:"version"`
	ID         string                      `json:"id"`
	Name       string                      `json:"name"`
	Pod        string                      `json:"pod"`
	CreatedAt  int64                       `json:"createdAt"` // nanoseconds since the epoch
	Config     *runtimeapi.ContainerConfig `json:"config"`
	ImageID    string                      `json:"imageID"`
	ImageRef   string                      `json:"imageRef"`          // a repo digest where the image has one, else its id
	RawEnv     map[int][]byte              `json:"rawEnv,omitempty"`  // values of config.envs that are no text, which the JSON of the CRI's types would change
	ImageName  string                      `json:"imageName"`         // for people: the tag that they asked for, where it is known
	Layers     []digest.Digest             `json:"layers"`            // diffIDs, base first; held in the image store
	Volumes    []digest.Digest             `json:"volumes,omitempty"` // the same of all image volumes together, in no order
	Cgroup     string                      `json:"cgroup"`
	Resources  *specs.LinuxResources       `json:"resources,omitempty"`
	LogPath    string                      `json:"logPath,omitempty"`
	StopSignal syscall.Signal              `json:"stopSignal"`
	User       *runtimeapi.ContainerUser   `json:"user,omitempty"`
	Mounts     []*runtimeapi.Mount         `json:"mounts,omitempty"`
	Labels     selinux.Labels              `json:"selinux,omitzero"`
	Launch     embedded.Prepared           `json:"launch"` // without the plan, which is a file of its own
	Exec       embedded.Prepared           `json:"exec"`   // the same for a command in the container
}

// Status is status.json. A value that was handed out is never changed.
type Status struct {
	Version    int    `json:"version"`
	State      State  `json:"state"`
	Pid        int    `json:"pid,omitempty"`
	StartTime  uint64 `json:"startTime,omitempty"`  // clock ticks since boot; with Pid it names the process
	StartedAt  int64  `json:"startedAt,omitempty"`  // nanoseconds since the epoch
	FinishedAt int64  `json:"finishedAt,omitempty"` // nanoseconds since the epoch
	ExitCode   int32  `json:"exitCode,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Message    string `json:"message,omitempty"`
}

// Reasons, in the words that kubectl shows.
const (
	ReasonCompleted  = "Completed"
	ReasonError      = "Error"
	ReasonOOMKilled  = "OOMKilled"
	ReasonStartError = "StartError"
	ReasonUnknown    = "Unknown"
)

// Exit codes of containers whose process told none.
const (
	exitStartError = 128
	exitUnknown    = 255
)

// Container is a container in memory.
type Container struct {
	dir string
	rec *Record
	// exited is closed when the state is Exited or later.
	exited chan struct{}

	mu     sync.Mutex // serialises changes of the status, of its file and of live
	status atomic.Pointer[Status]
	live   *live // guarded by mu: descriptors of the running process, else nil

	meter  stats.Meter
	litter litter

	changed func(runtimeapi.ContainerEventType) // tells whoever listens; set before anybody has the container

	stopping sync.Mutex             // held while a runtime deletes the container or hooks run
	updating sync.Mutex             // held by an update, which a start must not meet half done
	limits   atomic.Pointer[Limits] // nil before the first update
}

// live are the descriptors that the daemon keeps so that a dead monitor can be
// replaced without loss (see package monitor).
type live struct {
	pidfd   *os.File
	console *os.File // tty only
	keepers *monitor.Keepers
}

func (l *live) close() {
	if l == nil {
		return
	}
	for _, f := range []*os.File{l.pidfd, l.console} {
		if f != nil {
			f.Close()
		}
	}
	if l.keepers != nil {
		l.keepers.Close()
	}
}

// Record returns what was fixed at creation.
func (c *Container) Record() *Record { return c.rec }

// Status returns the container as it is now.
func (c *Container) Status() *Status { return c.status.Load() }

// Dir is the container's state directory.
func (c *Container) Dir() string { return c.dir }

func (c *Container) file(name string) string { return filepath.Join(c.dir, name) }

const (
	recordFile = "container.json"
	statusFile = "status.json"
	specFile   = "config.json"
	planFile   = "plan"
	execFile   = "exec"
	limitsFile = "limits.json"
)

// move applies an event and f to a copy of the status, writes the copy, and
// only then lets others see it.
func (c *Container) move(e Event, f func(*Status)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := *c.status.Load()
	var err error
	if s.State, err = s.State.Next(e); err != nil {
		return err
	}
	if f != nil {
		f(&s)
	}
	if err := atomicfile.WriteJSON(c.file(statusFile), &s); err != nil {
		return fmt.Errorf("write container status: %w", err)
	}
	old := c.status.Swap(&s)
	for _, told := range told(old.State, &s) {
		c.changed(told)
	}
	if s.State == Exited {
		close(c.exited) // the table lets nothing be Exited twice
	}
	return nil
}

// hold takes over the descriptors of a running process; release gives them up.
func (c *Container) hold(l *live) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live.close()
	c.live = l
}

func (c *Container) release() {
	c.hold(nil)
	c.meter.Close()
}

// use runs f with the descriptors; ErrClosed when the process has ended.
func (c *Container) use(f func(*live) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil {
		return os.ErrClosed
	}
	return f(c.live)
}

// load reads the records of a container's directory.
func load(dir string) (*Container, error) {
	var r Record
	if err := atomicfile.ReadJSON(filepath.Join(dir, recordFile), &r); err != nil {
		return nil, err
	}
	if r.Version != recordVersion || r.ID != filepath.Base(dir) || r.Config.GetMetadata() == nil {
		return nil, fmt.Errorf("container record of %q, version %d, does not belong in %s", r.ID, r.Version, dir)
	}
	restoreEnv(r.Config, r.RawEnv)
	var s Status
	if err := atomicfile.ReadJSON(filepath.Join(dir, statusFile), &s); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	} else if err != nil {
		s = Status{Version: recordVersion, State: Creating} // killed between the two files
	}
	if next[s.State] == nil || s.Version != recordVersion {
		return nil, fmt.Errorf("container status %q, version %d", s.State, s.Version)
	}
	return newContainer(dir, &r, &s), nil
}

func newContainer(dir string, r *Record, s *Status) *Container {
	c := &Container{dir: dir, rec: r, exited: make(chan struct{}), changed: func(runtimeapi.ContainerEventType) {}}
	c.status.Store(s)
	if s.State == Exited || s.State == Removing {
		close(c.exited)
	}
	return c
}
