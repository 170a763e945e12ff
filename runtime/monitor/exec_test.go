package monitor

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci"
)

// command runs an exec and returns its output and end.
func (n *node) command(change func(*ExecRequest), argv ...string) (stdout, stderr string, x Exit, err error) {
	n.t.Helper()
	outR, outW, _ := linux.Pipe()
	errR, errW, _ := linux.Pipe()
	defer outR.Close()
	defer errR.Close()
	r := ExecRequest{ContainerID: "c", ID: "e", Plan: plan(n.t, argv...), Stdout: outW, Stderr: errW}
	if change != nil {
		change(&r)
	}
	e, err := n.sup.Exec(background, r)
	outW.Close()
	errW.Close()
	if err != nil {
		return "", "", Exit{}, err
	}
	defer e.Close()
	o, _ := io.ReadAll(outR)
	s, _ := io.ReadAll(errR)
	x, err = e.Wait(background)
	if err == nil && x.Pid != e.Pid {
		n.t.Errorf("exit of pid %d, started %d", x.Pid, e.Pid)
	}
	return string(o), string(s), x, err
}

func TestExec(t *testing.T) {
	n := newNode(t)
	n.start("c", nil, "sleep", "1000")
	out, errs, x, err := n.command(nil, "sh", "-c", "echo out; echo err >&2; cat; exit 3")
	if err != nil || out != "out\n" || errs != "err\n" || x.Code != 3 || !x.Known || x.TimedOut || x.ContainerID != "c" || x.ID != "e" {
		t.Fatalf("%q %q %+v %v", out, errs, x, err)
	}
	inR, inW, _ := linux.InputPipe()
	go func() { inW.WriteString("input"); inW.Close() }()
	out, _, x, err = n.command(func(r *ExecRequest) { r.Stdin = inR }, "cat")
	inR.Close()
	if err != nil || out != "input" || x.Code != 0 {
		t.Fatalf("%q %+v %v", out, x, err)
	}
	if _, _, _, err := n.command(nil, "/no/such"); !errdefs.IsNotFound(err) {
		t.Errorf("missing program: %v", err)
	}
	if _, _, _, err := n.command(func(r *ExecRequest) { r.ContainerID = "x" }, "true"); !errdefs.IsNotFound(err) {
		t.Errorf("missing container: %v", err)
	}
	if _, _, _, err := n.command(func(r *ExecRequest) { r.Timeout = -1 }, "true"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("negative timeout: %v", err)
	}
	if list, _ := n.sup.List(background); len(list) != 1 {
		t.Errorf("an exec is no container: %+v", list)
	}
	linuxKill(t, n, "c")
	if _, _, _, err := n.command(nil, "true"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("ended container: %v", err)
	}
}

func linuxKill(t *testing.T, n *node, id string) {
	t.Helper()
	if err := n.sup.Kill(background, KillRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	n.wait(id)
}

func TestExecTerminal(t *testing.T) {
	n := newNode(t)
	n.start("c", nil, "sleep", "1000")
	e, err := n.sup.Exec(background, ExecRequest{
		ContainerID: "c", ID: "e", Plan: plan(t, "sh", "-c", "test -t 0 && test -t 1 && echo tty; read x; exit $x"),
		Prepared: oci.Prepared{Terminal: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	b := make([]byte, 100)
	if k, err := e.Console.Read(b); err != nil || string(b[:k]) != "tty\r\n" {
		t.Fatalf("%q %v", b[:k], err)
	}
	e.Console.WriteString("9\n")
	if x, err := e.Wait(background); err != nil || x.Code != 9 {
		t.Fatalf("%+v %v", x, err)
	}
}

// TestExecDeadline: a probe that times out takes everything that it started
// along, also what has left its session.
func TestExecDeadline(t *testing.T) {
	for kind, dir := range cgroups(t) {
		t.Run(kind, func(t *testing.T) {
			n := newNode(t)
			n.start("c", nil, "sleep", "1000")
			out, _, x, err := n.command(func(r *ExecRequest) {
				r.KillCgroup, r.Timeout = dir, 300*time.Millisecond
				r.Cgroup.Procs = []string{filepath.Join(dir, "cgroup.procs")}
			}, "sh", "-c", "setsid sleep 1000 & sleep 1000 & echo started; trap '' TERM; wait")
			if err != nil || out != "started\n" || x.Signal != 9 || !x.TimedOut {
				t.Fatalf("%q %+v %v", out, x, err) // reading to the end of out proves that all are dead
			}
			n.until("an empty cgroup", func() bool { return empty(dir) })
		})
	}
}

func TestTiedExecDiesWithItsClient(t *testing.T) {
	dir := ""
	for _, dir = range cgroups(t) {
	}
	n := newNode(t)
	n.start("c", nil, "sleep", "1000")
	other, err := Supervise(background, Options{
		Socket: n.options().Socket, StateDir: n.state, Binary: "/nowhere", Build: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	r, w, _ := linux.Pipe()
	defer r.Close()
	if _, err := other.Exec(background, ExecRequest{
		ContainerID: "c", ID: "tied", Plan: plan(t, "sh", "-c", "sleep 1000 & wait"), Stdout: w, Tied: true,
		KillCgroup: dir, Cgroup: oci.Placement{Procs: []string{filepath.Join(dir, "cgroup.procs")}},
	}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	other.Close()
	if _, err := io.ReadAll(r); err != nil { // its end is the end of all of it
		t.Fatal(err)
	}
}

func TestCallsInFlightEndWithTheMonitor(t *testing.T) {
	n := newNode(t)
	n.start("c", nil, "sleep", "1000")
	e, err := n.sup.Exec(background, ExecRequest{ContainerID: "c", ID: "e", Plan: plan(t, "sleep", "1000"), Tied: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	n.killMonitor()
	if _, err := e.Wait(background); !errdefs.IsUnavailable(err) {
		t.Fatalf("%v", err)
	}
	until(t, "the end of a tied exec", func() bool { return unix.Kill(e.Pid, 0) != nil || zombie(e.Pid) })
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := n.sup.List(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func zombie(pid int) bool {
	b, _ := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	return strings.Contains(string(b), ") Z ")
}
