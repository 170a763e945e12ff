package monitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci"
)

const patience = 30 * time.Second // before a test gives up; nothing is measured with it

// node is what a daemon has: a supervisor, its records, its kept descriptors.
type node struct {
	t     testing.TB
	state string
	sup   *Supervisor

	mu    sync.Mutex
	boxes map[string]*box
	exits map[string]chan Exit
}

// box is the daemon's knowledge of one container.
type box struct {
	req     StartRequest
	started *Started
	keep    *Keepers
}

func newNode(t testing.TB) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: pipes are chowned and the monitor is a subreaper")
	}
	t.Setenv(monitorVariable, "test")
	n := &node{t: t, state: t.TempDir(), boxes: map[string]*box{}, exits: map[string]chan Exit{}}
	n.connect()
	t.Cleanup(n.close)
	return n
}

func (n *node) options() Options {
	return Options{
		Socket: filepath.Join(n.state, "monitor.sock"), StateDir: n.state, Binary: os.Args[0], Init: "-", Build: "test",
		Adopt: n.adopt, OnExit: n.exited,
	}
}

func (n *node) connect() {
	n.t.Helper()
	sup, err := Supervise(context.Background(), n.options())
	if err != nil {
		b, _ := os.ReadFile(filepath.Join(n.state, "monitor.log"))
		n.t.Fatalf("supervise: %v\n%s", err, b)
	}
	n.sup = sup
}

func (n *node) adopt() []AdoptRequest {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []AdoptRequest
	for id, b := range n.boxes {
		if b.started == nil {
			continue
		}
		all = append(all, AdoptRequest{
			ID: id, Dir: b.req.Dir, Pid: b.started.Pid, StartTime: b.started.StartTime, At: b.started.At,
			Pidfd: b.started.Pidfd, Console: b.started.Console, Terminal: b.req.Prepared.Terminal,
			KillCgroup: b.req.KillCgroup, Log: b.req.Log, Stdin: b.keep.Stdin != nil,
		})
	}
	return all
}

func (n *node) exited(x Exit) {
	select {
	case n.exit(x.ID) <- x:
	default: // told twice
	}
}

func (n *node) exit(id string) chan Exit {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.exits[id] == nil {
		n.exits[id] = make(chan Exit, 1)
	}
	return n.exits[id]
}

func (n *node) wait(id string) Exit {
	n.t.Helper()
	select {
	case x := <-n.exit(id):
		return x
	case <-time.After(patience):
		b, _ := os.ReadFile(filepath.Join(n.state, "monitor.log"))
		n.t.Fatalf("no exit of %s\n%s", id, b)
	}
	return Exit{}
}

// prepare makes the directory of a container.
func (n *node) prepare(id string, change func(*StartRequest)) *box {
	n.t.Helper()
	dir := filepath.Join(n.state, id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		n.t.Fatal(err)
	}
	b := &box{req: StartRequest{ID: id, Dir: dir, Log: filepath.Join(dir, "logs", "0.log")}}
	if change != nil {
		change(&b.req)
	}
	if !b.req.Prepared.Terminal {
		if err := MakeFIFOs(dir, 0, 0, b.req.Stdin); err != nil {
			n.t.Fatal(err)
		}
	}
	var err error
	if b.keep, err = OpenKeepers(dir); err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	n.boxes[id] = b
	n.mu.Unlock()
	return b
}

// start runs a program as a container.
func (n *node) start(id string, change func(*StartRequest), argv ...string) *box {
	n.t.Helper()
	b := n.prepare(id, change)
	b.req.PlanFile = plan(n.t, argv...)
	st, err := n.sup.Start(context.Background(), b.req)
	if err != nil {
		n.t.Fatalf("start %s: %v", id, err)
	}
	n.mu.Lock()
	b.started = st
	n.mu.Unlock()
	return b
}

// killMonitor kills the monitor and waits until another one serves.
func (n *node) killMonitor() {
	n.t.Helper()
	pid, _ := n.sup.Monitor()
	if pid == 0 {
		n.t.Fatal("no monitor")
	}
	unix.Kill(pid, unix.SIGKILL)
	n.until("a new monitor", func() bool { p, _ := n.sup.Monitor(); return p != 0 && p != pid })
}

func (n *node) until(what string, ok func() bool) {
	n.t.Helper()
	until(n.t, what, ok)
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for:", what)
		}
	}
}

func (n *node) close() {
	defer func() {
		b, _ := os.ReadFile(filepath.Join(n.state, "monitor.log"))
		if strings.Contains(string(b), "DATA RACE") || strings.Contains(string(b), "panic") {
			n.t.Errorf("the monitor's log:\n%s", b)
		}
	}()
	n.mu.Lock()
	boxes := n.boxes
	n.mu.Unlock()
	pid, _ := n.sup.Monitor()
	store := storePid(n)
	n.sup.Close()
	if pid != 0 {
		unix.Kill(pid, unix.SIGKILL)
		until(n.t, "the end of the monitor", func() bool { return unix.Kill(pid, 0) != nil })
	}
	if store != 0 { // it would wait for somebody to ask for what it holds
		unix.Kill(store, unix.SIGKILL)
	}
	for _, b := range boxes {
		if b.started != nil {
			if b.started.Pidfd == nil {
				continue
			}
			linux.PidfdSignal(b.started.Pidfd, unix.SIGKILL)
			linux.PidfdDead(b.started.Pidfd, patience)
			b.started.Pidfd.Close()
			if b.started.Console != nil {
				b.started.Console.Close()
			}
		}
		b.keep.Close()
	}
}

var cri = regexp.MustCompile(`^\S+ (stdout|stderr) ([PF]) (.*)\n$`)

// output is what a container wrote to a stream according to its log.
func output(t testing.TB, path, stream string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for l := range strings.Lines(string(data)) {
		m := cri.FindStringSubmatch(l)
		if m == nil {
			t.Fatalf("bad log line %q", l)
		}
		if m[1] != stream {
			continue
		}
		b.WriteString(m[3])
		if m[2] == "F" {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// cgroups are fresh cgroups of every kind that this host has, by kind.
func cgroups(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for kind, parent := range map[string]string{
		"v2": "/sys/fs/cgroup", "v2 of a hybrid host": "/sys/fs/cgroup/unified", "v1": "/sys/fs/cgroup/freezer",
	} {
		_, err := os.Stat(filepath.Join(parent, "cgroup.procs"))
		if err != nil {
			continue
		}
		dir := filepath.Join(parent, fmt.Sprintf("berth-test-%x", rand.Uint64()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		all[kind] = dir
		t.Cleanup(func() {
			if err := killCgroup(dir); err != nil {
				t.Error(err)
			}
			until(t, "an empty cgroup", func() bool {
				err := os.Remove(dir) // the monitor removes that of a tied exec
				return err == nil || errors.Is(err, fs.ErrNotExist)
			})
		})
	}
	if len(all) == 0 {
		t.Skip("no cgroup can be made here")
	}
	return all
}

func inCgroup(dir string) func(*StartRequest) {
	return func(r *StartRequest) {
		r.KillCgroup = dir
		r.Cgroup = oci.Placement{Procs: []string{filepath.Join(dir, "cgroup.procs")}}
	}
}

func empty(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	return err == nil && len(b) == 0
}
