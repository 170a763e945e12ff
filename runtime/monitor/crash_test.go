package monitor

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
)

// TestNoLineIsLost kills the monitor over and over while a program counts at
// full speed: every number is in the log exactly once and in order.
func TestNoLineIsLost(t *testing.T) {
	n := newNode(t)
	b := n.start("c", nil, "seq", "1", "inf")
	for range 10 {
		time.Sleep(time.Duration(rand.IntN(15000)) * time.Microsecond)
		n.killMonitor()
	}
	linux.PidfdSignal(b.started.Pidfd, unix.SIGTERM)
	if x := n.wait("c"); x.Signal != 15 || !x.Known {
		t.Errorf("exit %+v", x)
	}
	last := counted(t, b.req.Log)
	t.Log("lines:", last)
	if last < 10000 {
		t.Errorf("only %d lines: the test proves little", last)
	}
}

// counted checks a log of ascending numbers and returns the last. The very last
// line may be cut off by the signal.
func counted(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	last := 0
	in := bufio.NewScanner(f)
	for in.Scan() {
		fields := bytes.SplitN(in.Bytes(), []byte(" "), 4)
		if len(fields) != 4 {
			t.Fatalf("line %q after %d", in.Text(), last)
		}
		if fields[2][0] == 'P' {
			continue // checked by being the last: the next number would be missing
		}
		if k, err := strconv.Atoi(string(fields[3])); err != nil || k != last+1 {
			t.Fatalf("line %q after %d", in.Text(), last)
		}
		last++
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
	return last
}

// TestExitWithoutMonitor: the container ends while there is none. Its last words
// wait in the pipe, its status in the kernel.
func TestExitWithoutMonitor(t *testing.T) {
	n := newNode(t)
	gate := filepath.Join(n.state, "gate")
	if err := linux.Mkfifo(gate, 0o600, 0, 0); err != nil {
		t.Fatal(err)
	}
	b := n.start("c", nil, "sh", "-c", "read x <"+gate+"; echo last words; exit 42")
	n.sup.Close()
	rec := monitorRecord(t, n.state)
	unix.Kill(rec.Pid, unix.SIGKILL)
	until(t, "the monitor's end", func() bool { return !linux.Alive(rec.Pid, rec.StartTime) })
	os.WriteFile(gate, []byte("go\n"), 0)
	if dead, err := linux.PidfdDead(b.started.Pidfd, patience); !dead || err != nil {
		t.Fatal(dead, err)
	}
	n.connect()
	x := n.wait("c")
	if !x.Known || x.Code != 42 {
		if _, ok, _ := linux.PidfdExit(b.started.Pidfd); !ok {
			t.Skip("the orphan was reaped before anybody looked, and this kernel does not keep its status (6.15)")
		}
		t.Fatalf("%+v", x)
	}
	if got := output(t, b.req.Log, "stdout"); got != "last words\n" {
		t.Fatalf("log %q", got)
	}
}

// TestExitReapedByOthers: nobody is left to wait for; the kept pidfd knows.
func TestExitReapedByOthers(t *testing.T) {
	n := newNode(t)
	b := n.start("c", nil, "sh", "-c", "exit 42")
	n.wait("c") // the monitor has reaped it
	n.sup.Close()
	rec := monitorRecord(t, n.state)
	unix.Kill(rec.Pid, unix.SIGKILL)
	until(t, "the monitor's end", func() bool { return !linux.Alive(rec.Pid, rec.StartTime) })
	os.Remove(filepath.Join(b.req.Dir, exitFile))
	n.connect()
	x := n.wait("c")
	_, kept, _ := linux.PidfdExit(b.started.Pidfd)
	if kept && (!x.Known || x.Code != 42) || !kept && (x.Known || x.Code != 255) {
		t.Fatalf("status kept by the kernel: %v; exit %+v", kept, x)
	}
}

// TestProcessIsGone: a pid that is another process's now is never watched.
func TestProcessIsGone(t *testing.T) {
	n := newNode(t)
	b := n.prepare("c", nil)
	b.started = &Started{Pid: os.Getpid(), StartTime: 1}
	defer func() { b.started = nil }()
	n.killMonitor()
	if x := n.wait("c"); x.Known || x.Code != 255 {
		t.Fatalf("%+v", x)
	}
}

// TestDaemonRestarts: a new supervisor finds the monitor and everything in it.
func TestDaemonRestarts(t *testing.T) {
	n := newNode(t)
	b := n.start("running", nil, "sleep", "1000")
	n.start("ended", nil, "sh", "-c", "exit 5")
	n.wait("ended")
	pid, _ := n.sup.Monitor()
	n.sup.Close()
	b.started.Pidfd.Close()
	n.connect()
	if p, build := n.sup.Monitor(); p != pid || build != "test" {
		t.Fatalf("monitor %d %s, was %d", p, build, pid)
	}
	if x := n.wait("ended"); x.Code != 5 { // told again to the new daemon
		t.Fatalf("%+v", x)
	}
	list, err := n.sup.List(background)
	if err != nil || len(list) != 2 || list[0].ID != "ended" || list[0].Exit == nil || list[1].Exit != nil ||
		list[1].Pid != b.started.Pid || list[1].StartTime != b.started.StartTime || list[1].Log != b.req.Log {
		t.Fatalf("%+v %v", list, err)
	}
	if b.started.Pidfd, _, err = n.sup.Take(background, "running"); err != nil {
		t.Fatal(err)
	}
	if err := linux.PidfdSignal(b.started.Pidfd, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if x := n.wait("running"); x.Code != 137 {
		t.Fatalf("%+v", x)
	}
}

func monitorRecord(t *testing.T, state string) record {
	t.Helper()
	var r record
	if err := readJSON(filepath.Join(state, "monitor.json"), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestKilledBetweenDeathAndPublication: the monitor dies when it has seen the
// exit and something still holds the output; the status is not lost with it.
func TestKilledBetweenDeathAndPublication(t *testing.T) {
	n := newNode(t)
	gate := filepath.Join(n.state, "gate")
	if err := linux.Mkfifo(gate, 0o600, 0, 0); err != nil {
		t.Fatal(err)
	}
	b := n.start("c", nil, "sh", "-c", "(read x <"+gate+") & exit 7")
	if dead, err := linux.PidfdDead(b.started.Pidfd, patience); !dead || err != nil {
		t.Fatal(dead, err)
	}
	time.Sleep(20 * time.Millisecond) // it waits for the end of the output now
	n.killMonitor()
	if x := n.wait("c"); x.Code != 7 || !x.Known {
		t.Fatalf("%+v", x)
	}
	os.WriteFile(gate, []byte("go\n"), 0)
}
