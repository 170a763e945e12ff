package monitor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/berth-cri/berth/linux"
)

// program is the monitor as a file of its own, of another build.
func program(t *testing.T, build string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "berth-monitor")
	script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s \"$@\"\n", monitorVariable, build, self)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestUpgradeInPlace: a daemon of a newer build makes the monitor its own. Same
// process, same children; lines, codes, terminals, stdin and kills go on.
func TestUpgradeInPlace(t *testing.T) {
	n := newNode(t)
	counter := n.start("counter", nil, "seq", "1", "inf")
	stdin := n.start("stdin", func(r *StartRequest) { r.Stdin = true }, "sh", "-c", "cat; exit 6")
	tty := n.start("tty", func(r *StartRequest) { r.Prepared.Terminal = true }, "sh", "-c", "stty -echo; read a; echo $a; exit 3")
	n.start("stopping", nil, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done")
	n.until("its trap", func() bool { return output(t, filepath.Join(n.state, "stopping", "logs", "0.log"), "stdout") != "" })
	if err := n.sup.Kill(background, KillRequest{ID: "stopping", Signal: 15, After: 700 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	n.start("ended", nil, "sh", "-c", "echo last; exit 9")
	n.wait("ended")
	n.start("code", nil, "sh", "-c", "sleep 0.3; exit 42")
	old, _ := n.sup.Monitor()
	files := 0
	for round := range 3 {
		build := fmt.Sprint("build", round)
		n.sup.Close()
		o := n.options()
		o.Binary, o.Build = program(t, build), build
		o.Adopt = nil // nothing comes from the daemon
		stdin.keep.CloseStdin()
		var err error
		if n.sup, err = Supervise(background, o); err != nil {
			t.Fatal(err)
		}
		if pid, now := n.sup.Monitor(); pid != old || now != build {
			t.Fatalf("monitor %d %s, was %d", pid, now, old)
		}
		list, err := n.sup.List(background)
		if err != nil || len(list) != 6 {
			t.Fatalf("%d containers, %v", len(list), err)
		}
		if round == 1 {
			files = descriptors(t, old)
		}
		if now := descriptors(t, old); round == 2 && now > files {
			t.Errorf("%d descriptors, %d one upgrade before", now, files)
		}
	}
	if x := n.wait("code"); x.Code != 42 || !x.Known {
		t.Errorf("%+v", x)
	}
	if x := n.wait("ended"); x.Code != 9 {
		t.Errorf("%+v", x)
	}
	if x := n.wait("stopping"); x.Signal != 9 {
		t.Errorf("%+v", x)
	}
	fmt.Fprintln(tty.started.Console, "terminal")
	if x := n.wait("tty"); x.Code != 3 || !strings.Contains(output(t, tty.req.Log, "stdout"), "terminal") {
		t.Errorf("%+v", x)
	}
	w, err := os.OpenFile(filepath.Join(stdin.req.Dir, stdinFIFO), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal("stdin was closed:", err)
	}
	fmt.Fprintln(w, "input")
	w.Close()
	if err := n.sup.CloseStdin(background, "stdin"); err != nil {
		t.Fatal(err)
	}
	if x := n.wait("stdin"); x.Code != 6 || output(t, stdin.req.Log, "stdout") != "input\n" {
		t.Errorf("%+v", x)
	}
	linux.PidfdSignal(counter.started.Pidfd, unix.SIGTERM)
	if x := n.wait("counter"); x.Signal != 15 || !x.Known {
		t.Errorf("%+v", x)
	}
	t.Log("lines:", counted(t, counter.req.Log))
	n.start("after", nil, "sh", "-c", "exit 1")
	if x := n.wait("after"); x.Code != 1 {
		t.Errorf("%+v", x)
	}
}

// TestFailedUpgradeChangesNothing: the old monitor serves on.
func TestFailedUpgradeChangesNothing(t *testing.T) {
	n := newNode(t)
	b := n.start("c", nil, "sleep", "1000")
	pid, _ := n.sup.Monitor()
	garbage := filepath.Join(t.TempDir(), "berth-monitor")
	os.WriteFile(garbage, []byte("no program"), 0o755)
	for _, path := range []string{garbage, "/no/such/program", "relative"} {
		n.sup.Close()
		o := n.options()
		o.Binary, o.Build = path, "newer"
		sup, err := Supervise(background, o)
		if err != nil {
			t.Fatal(err)
		}
		n.sup = sup
		if p, build := n.sup.Monitor(); p != pid || build != "test" {
			t.Fatalf("monitor %d %s", p, build)
		}
	}
	if list, err := n.sup.List(background); err != nil || len(list) != 1 || list[0].Exit != nil {
		t.Fatalf("%+v %v", list, err)
	}
	linux.PidfdSignal(b.started.Pidfd, unix.SIGKILL)
	if x := n.wait("c"); x.Code != 137 {
		t.Fatalf("%+v", x)
	}
	if _, err := n.sup.Exec(background, ExecRequest{ContainerID: "c", ID: "e", Plan: plan(t, "true")}); !errdefs.IsFailedPrecondition(err) {
		t.Fatal(err)
	}
}
