package monitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

var background = context.Background()

func TestStartLogsAndExits(t *testing.T) {
	n := newNode(t)
	for i, tc := range []struct {
		name, script   string
		code, signal   int
		stdout, stderr string
	}{
		{"ends well", "echo out; echo err >&2", 0, 0, "out\n", "err\n"},
		{"exit code", "exit 42", 42, 0, "", ""},
		{"killed", "kill -KILL $$", 137, 9, "", ""},
		{"ended by a signal", "kill -TERM $$", 143, 15, "", ""},
		{"no newline at the end", "printf 'a\nb'", 0, 0, "a\nb", ""},
		{"more than a pipe holds", "seq 1 50000", 0, 0, seq(50000), ""},
		{"opens its output again", "echo one >/dev/stdout; echo two >/proc/self/fd/1; echo three >/dev/stderr", 0, 0, "one\ntwo\n", "three\n"},
		{"cannot read its own output", "echo own; read x <&1; echo \"$?\"", 0, 0, "own\n1\n", "*"},
		// The starter of these tests inherits: the monitor itself must add nothing.
		{"ignores no signal", "grep SigIgn /proc/self/status | tr -d '\\t'", 0, 0, "SigIgn:" + ignoredSignals(t) + "\n", ""},
		{"stdin is /dev/null", "cat; echo eof", 0, 0, "eof\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := fmt.Sprintf("c%d", i)
			b := n.start(id, nil, "sh", "-c", tc.script)
			x := n.wait(id)
			if x.Code != tc.code || x.Signal != tc.signal || !x.Known || x.Pid != b.started.Pid || x.At.IsZero() {
				t.Fatalf("exit %+v", x)
			}
			// Everything that was written is in the log when the exit is told.
			if got := output(t, b.req.Log, "stdout"); got != tc.stdout {
				t.Errorf("stdout %.100q", got)
			}
			if got := output(t, b.req.Log, "stderr"); got != tc.stderr && tc.stderr != "*" {
				t.Errorf("stderr %.100q", got)
			}
			onDisk, ok, err := ReadExit(b.req.Dir)
			if err != nil || !ok || !onDisk.At.Equal(x.At) || onDisk.Code != x.Code {
				t.Errorf("exit.json: %+v %v %v", onDisk, ok, err)
			}
			if err := n.sup.Forget(background, id); err != nil {
				t.Error(err)
			}
			if err := n.sup.Forget(background, id); !errdefs.IsNotFound(err) {
				t.Errorf("forget twice: %v", err)
			}
		})
	}
	if list, err := n.sup.List(background); err != nil || len(list) != 0 {
		t.Fatalf("left: %+v %v", list, err)
	}
}

func seq(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

func TestStartErrors(t *testing.T) {
	n := newNode(t)
	b := n.prepare("c", nil)
	b.req.PlanFile = plan(t, "/no/such/program")
	_, err := n.sup.Start(background, b.req)
	var step *oci.StepError
	if !errdefs.IsNotFound(err) || !errors.As(err, &step) || step.Step != "execve /no/such/program" || step.Errno != unix.ENOENT {
		t.Fatalf("missing program: %v (%+v)", err, step)
	}
	if _, err := os.Stat(b.req.Log); err != nil {
		t.Error("the log file is made at the latest at the start:", err)
	}
	if _, err := os.Stat(filepath.Join(b.req.Dir, carryFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the carry file stayed:", err)
	}
	// The same id starts after its failure.
	b.req.PlanFile = plan(t, "sleep", "60")
	if b.started, err = n.sup.Start(background, b.req); err != nil {
		t.Fatal(err)
	}
	if _, err := n.sup.Start(background, b.req); !errdefs.IsAlreadyExists(err) {
		t.Errorf("started twice: %v", err)
	}
	if err := n.sup.Forget(background, "c"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("forget a running container: %v", err)
	}
	for name, r := range map[string]StartRequest{
		"no id":         {Dir: "/", PlanFile: b.req.PlanFile},
		"relative path": {ID: "x", Dir: "x", PlanFile: b.req.PlanFile},
		"no plan":       {ID: "x", Dir: "/x"},
	} {
		if _, err := n.sup.Start(background, r); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := n.sup.Start(background, StartRequest{ID: "x", Dir: t.TempDir(), PlanFile: b.req.PlanFile}); !errors.Is(err, errdefs.ErrNotFound) && err == nil {
		t.Errorf("directory without pipes: %v", err)
	}
}

func TestStdinReachesTheContainerAndEnds(t *testing.T) {
	n := newNode(t)
	b := n.start("c", func(r *StartRequest) { r.Stdin = true }, "sh", "-c", "cat; echo end")
	w, err := os.OpenFile(filepath.Join(b.req.Dir, stdinFIFO), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(w, "hello")
	w.Close()
	n.until("hello in the log", func() bool { return output(t, b.req.Log, "stdout") == "hello\n" })
	n.killMonitor() // the daemon's keeper holds it open
	b.keep.CloseStdin()
	if l, err := n.sup.List(background); err != nil || len(l) != 1 || !l[0].Stdin || l[0].Exit != nil {
		t.Fatalf("%+v %v", l, err)
	}
	if err := n.sup.CloseStdin(background, "c"); err != nil {
		t.Fatal(err)
	}
	n.wait("c")
	if got := output(t, b.req.Log, "stdout"); got != "hello\nend\n" {
		t.Fatalf("%q", got)
	}
}

func TestTerminal(t *testing.T) {
	n := newNode(t)
	b := n.start("c", func(r *StartRequest) { r.Prepared.Terminal = true },
		"sh", "-c", "stty -echo; test -t 0 && test -t 1 && echo tty; read a; echo $a; read a; echo $a; exit 3")
	log := func(want string) {
		t.Helper()
		n.until(want, func() bool { return output(t, b.req.Log, "stdout") == want })
	}
	log("tty\r\n")
	fmt.Fprintln(b.started.Console, "first")
	log("tty\r\nfirst\r\n")
	n.killMonitor()
	_, console, err := n.sup.Take(background, "c")
	if err != nil || console == nil {
		t.Fatal("the new monitor has no console:", err)
	}
	defer console.Close()
	fmt.Fprintln(console, "second")
	log("tty\r\nfirst\r\nsecond\r\n")
	if x := n.wait("c"); x.Code != 3 || !x.Known {
		t.Fatalf("%+v", x)
	}
}

func TestReopenLog(t *testing.T) {
	n := newNode(t)
	b := n.start("c", func(r *StartRequest) { r.Stdin = true }, "cat")
	in, err := os.OpenFile(filepath.Join(b.req.Dir, stdinFIFO), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	fmt.Fprintln(in, "before")
	n.until("the line", func() bool { return output(t, b.req.Log, "stdout") != "" })
	os.Rename(b.req.Log, b.req.Log+".1")
	if err := n.sup.ReopenLog(background, "c"); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in, "after")
	n.until("the line", func() bool { return output(t, b.req.Log, "stdout") == "after\n" })
	if got := output(t, b.req.Log+".1", "stdout"); got != "before\n" {
		t.Fatalf("old log %q", got)
	}
	in.Close()
	b.keep.CloseStdin()
	if err := n.sup.CloseStdin(background, "c"); err != nil {
		t.Fatal(err)
	}
	n.wait("c")
	os.Remove(b.req.Log)
	if err := n.sup.ReopenLog(background, "c"); !errdefs.IsFailedPrecondition(err) {
		t.Fatalf("after the exit: %v", err)
	}
	if _, err := os.Stat(b.req.Log); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("an error must not make a file:", err)
	}
	if err := n.sup.ReopenLog(background, "other"); !errdefs.IsNotFound(err) {
		t.Fatalf("unknown container: %v", err)
	}
}

// TestSomethingHoldsTheOutput: the exit is told in bounded time, and what comes
// later still reaches the log.
func TestSomethingHoldsTheOutput(t *testing.T) {
	n := newNode(t)
	go1 := filepath.Join(n.state, "go")
	if err := linux.Mkfifo(go1, 0o600, 0, 0); err != nil {
		t.Fatal(err)
	}
	b := n.start("c", nil, "sh", "-c", "echo main; (read x <"+go1+"; echo late) & exit 7")
	if x := n.wait("c"); x.Code != 7 {
		t.Fatalf("%+v", x)
	}
	if got := output(t, b.req.Log, "stdout"); got != "main\n" {
		t.Fatalf("%q", got)
	}
	os.WriteFile(go1, []byte("go\n"), 0)
	n.until("the late line", func() bool { return output(t, b.req.Log, "stdout") == "main\nlate\n" })
	n.until("no carry file", func() bool {
		_, err := os.Stat(filepath.Join(b.req.Dir, carryFile))
		return errors.Is(err, fs.ErrNotExist)
	})
}

func TestKillEscalates(t *testing.T) {
	for kind, dir := range cgroups(t) {
		t.Run(kind, func(t *testing.T) {
			n := newNode(t)
			b := n.start("c", inCgroup(dir), "sh", "-c", `trap 'echo term' TERM; (trap "" TERM; while :; do sleep 1; done) & echo ready; while :; do sleep 0.01; done`)
			ready := func(want string) {
				t.Helper()
				n.until(want, func() bool { return output(t, b.req.Log, "stdout") == want })
			}
			ready("ready\n")
			kill := func(sig int, after time.Duration) {
				t.Helper()
				if err := n.sup.Kill(background, KillRequest{ID: "c", Signal: sig, After: after}); err != nil {
					t.Fatal(err)
				}
			}
			kill(15, time.Hour)
			ready("ready\nterm\n")
			kill(15, 2*time.Hour) // neither a second signal nor a longer wait
			kill(15, time.Hour)
			n.killMonitor() // the wait goes on in the new one
			kill(0, 0)
			if x := n.wait("c"); x.Code != 137 || x.Signal != 9 {
				t.Fatalf("%+v", x)
			}
			ready("ready\nterm\n")
			n.until("an empty cgroup", func() bool { return empty(dir) })
			kill(15, 0) // already stopped: no error
		})
	}
}

func TestKillStrikesAfterItsWait(t *testing.T) {
	n := newNode(t)
	b := n.start("c", nil, "sh", "-c", `trap "" TERM; echo ready; while :; do sleep 0.01; done`)
	n.until("ready", func() bool { return output(t, b.req.Log, "stdout") != "" })
	if err := n.sup.Kill(background, KillRequest{ID: "c", Signal: 15, After: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if err := n.sup.Kill(background, KillRequest{ID: "c", Signal: 15, After: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if x := n.wait("c"); x.Signal != 9 {
		t.Fatalf("%+v", x)
	}
	if err := n.sup.Kill(background, KillRequest{ID: "c", Signal: 99}); !errdefs.IsInvalidArgument(err) {
		t.Fatal(err)
	}
}

// ignoredSignals are those that this process was started with, in hexadecimal.
func ignoredSignals(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "SigIgn:\t")
	set, _, _ := strings.Cut(rest, "\n")
	return set
}
