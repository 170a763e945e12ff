package monitor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
)

// die ends daemon and monitor in the same instant: what the daemon kept in
// descriptors is gone with it.
func (n *node) die() {
	n.t.Helper()
	pid, _ := n.sup.Monitor()
	start, err := linux.StartTime(pid)
	if err != nil {
		n.t.Fatal(err)
	}
	n.sup.stop() // no replacement
	unix.Kill(pid, unix.SIGKILL)
	n.mu.Lock()
	for _, b := range n.boxes {
		b.keep.Close()
		if b.started != nil {
			b.started.Pidfd.Close()
			b.started.Pidfd = nil
			if b.started.Console != nil {
				b.started.Console.Close()
				b.started.Console = nil
			}
		}
	}
	n.mu.Unlock()
	n.sup.Close()
	n.until("the monitor's end", func() bool { return !linux.Alive(pid, start) })
}

// revive starts a new daemon, which takes its descriptors again.
func (n *node) revive() {
	n.t.Helper()
	n.connect()
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, b := range n.boxes {
		var err error
		if b.started.Pidfd, b.started.Console, err = n.sup.Take(background, id); err != nil {
			n.t.Fatal(err)
		}
		if b.keep, err = OpenKeepers(b.req.Dir); err != nil {
			n.t.Fatal(err)
		}
	}
}

// TestDaemonAndMonitorDie: with nobody left a program goes on writing, waits at
// the full pipe, and not a line is missing afterwards.
func TestDaemonAndMonitorDie(t *testing.T) {
	n := newNode(t)
	b := n.start("c", nil, "sh", "-c", "trap 'exec kill -9 $$' PIPE; i=0; while :; do i=$((i+1)); echo $i; done")
	for range 3 {
		n.until("some lines", func() bool { st, err := os.Stat(b.req.Log); return err == nil && st.Size() > 10000 })
		n.die()
		time.Sleep(20 * time.Millisecond)
		if !linux.Alive(b.started.Pid, b.started.StartTime) {
			t.Fatal("the container died")
		}
		n.revive()
	}
	linux.PidfdSignal(b.started.Pidfd, unix.SIGTERM)
	if x := n.wait("c"); x.Signal != 15 || !x.Known {
		t.Fatalf("%+v", x)
	}
	t.Log("lines:", counted(t, b.req.Log))
}

// TestEndWhileNobodyIsThere: the store keeps last words, and the status where
// the kernel does.
func TestEndWhileNobodyIsThere(t *testing.T) {
	n := newNode(t)
	gate := filepath.Join(n.state, "gate")
	if err := linux.Mkfifo(gate, 0o600, 0, 0); err != nil {
		t.Fatal(err)
	}
	b := n.start("c", nil, "sh", "-c", "read x <"+gate+"; echo last words; exit 42")
	n.die()
	os.WriteFile(gate, []byte("go\n"), 0)
	n.until("its end", func() bool { return !linux.Alive(b.started.Pid, b.started.StartTime) })
	n.connect()
	x := n.wait("c")
	if got := output(t, b.req.Log, "stdout"); got != "last words\n" {
		t.Fatalf("log %q", got)
	}
	pidfd, _, err := n.sup.Take(background, "c")
	if err != nil {
		t.Fatal(err)
	}
	b.started.Pidfd = pidfd
	if _, kept, _ := linux.PidfdExit(pidfd); kept && (!x.Known || x.Code != 42) {
		t.Fatalf("exit %+v", x)
	}
}

func TestTerminalOutlivesBoth(t *testing.T) {
	n := newNode(t)
	b := n.start("c", func(r *StartRequest) { r.Prepared.Terminal = true }, "sh", "-c", "stty -echo; echo up; read a; echo $a; exit 3")
	n.until("its line", func() bool { return strings.Contains(output(t, b.req.Log, "stdout"), "up") })
	b.started.At = time.Now()
	n.mu.Lock()
	n.boxes["c"].req.Prepared.Terminal = true
	n.mu.Unlock()
	n.die()
	n.revive()
	fmt.Fprintln(b.started.Console, "hello")
	if x := n.wait("c"); x.Code != 3 {
		t.Fatalf("%+v", x)
	}
	if got := output(t, b.req.Log, "stdout"); got != "up\r\nhello\r\n" {
		t.Fatalf("%q", got)
	}
}

// TestStoreIsReplaced: its death harms nobody, and the next one holds everything.
func TestStoreIsReplaced(t *testing.T) {
	n := newNode(t)
	b := n.start("c", nil, "sh", "-c", "while :; do echo x; sleep 0.01; done")
	monitor, _ := n.sup.Monitor()
	old := storePid(n)
	unix.Kill(old, unix.SIGKILL)
	n.until("a new store", func() bool { p := storePid(n); return p != 0 && p != old })
	n.until("its content", func() bool { return len(held(t, n, "c")) == 3 })
	if p, _ := n.sup.Monitor(); p != monitor || !linux.Alive(b.started.Pid, b.started.StartTime) {
		t.Fatal("somebody else died")
	}
	linuxKill(t, n, "c")
	if err := n.sup.Forget(background, "c"); err != nil {
		t.Fatal(err)
	}
	n.until("nothing held", func() bool { return len(held(t, n, "c")) == 0 })
}

// TestStoreEnds: with no container and no monitor it goes too.
func TestStoreEnds(t *testing.T) {
	n := newNode(t)
	n.start("c", nil, "true")
	n.wait("c")
	if err := n.sup.Forget(background, "c"); err != nil {
		t.Fatal(err)
	}
	pid := storePid(n)
	start, err := linux.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	n.die()
	n.until("the end of the store", func() bool { return !linux.Alive(pid, start) })
	n.connect()
}

func dialStore(n *node) *client {
	c, err := dial(background, filepath.Join(n.state, storeSocket), "test", func(Exit) {})
	if err != nil {
		return nil
	}
	return c
}

func storePid(n *node) int {
	if c := dialStore(n); c != nil {
		defer c.close(errGone)
		return c.monitor.Pid
	}
	return 0
}

func held(t *testing.T, n *node, id string) map[string]*os.File {
	c := dialStore(n)
	if c == nil {
		return nil
	}
	defer c.close(errGone)
	files, err := c.call(background, opGive, target{id}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeAll(files)
	return files
}
