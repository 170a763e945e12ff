package embedded

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// onTerminal starts a process with a terminal and returns what is shown. It types
// when the process says "go".
func onTerminal(t *testing.T, p Prepared, err error, typed string, set ...func(*Start)) (string, unix.WaitStatus) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if !p.Terminal {
		t.Fatal("the launcher is not told of the terminal")
	}
	s := Start{Prepared: p, Plan: planFile(t, p)}
	defer s.Plan.Close()
	for _, f := range set {
		f(&s)
	}
	proc, err := launcher.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Pidfd.Close()
	defer proc.Console.Close()
	proc.Console.SetDeadline(time.Now().Add(20 * time.Second)) // so it is in Go's poller
	var out []byte
	for b := make([]byte, 100); typed != "" && !bytes.Contains(out, []byte("go\r\n")); {
		n, err := proc.Console.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b[:n]...)
	}
	if _, err := io.WriteString(proc.Console, typed); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(proc.Console)
	out = append(out, rest...)
	if err != nil && !errors.Is(err, unix.EIO) { // which is how a terminal ends
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), "\r\n", "\n"), wait(t, proc)
}

func TestTerminalOfContainer(t *testing.T) {
	tty := func(text string) *specs.Spec {
		s := script(text)
		s.Process.Terminal = true
		s.Process.ConsoleSize = &specs.Box{Height: 33, Width: 99}
		return s
	}
	for name, tc := range map[string]struct {
		edit                func(*specs.Spec)
		script, typed, want string
	}{
		"is its standard streams":     {nil, "tty; tty <&1; tty <&2", "", "/dev/pts/0\n/dev/pts/0\n/dev/pts/0\n"},
		"has the size asked for":      {nil, "stty size", "", "33 99\n"},
		"controls its session":        {nil, "echo works > /dev/tty; cut -d' ' -f7 /proc/self/stat", "", "works\n34816\n"},
		"is /dev/console":             {nil, "stat -c '%F %t' /dev/console; echo hi > /dev/console", "", "character special file 88\nhi\n"},
		"belongs to the user":         {func(s *specs.Spec) { s.Process.User = specs.User{UID: 1000, GID: 1000} }, "stat -c '%u:%g %a' /dev/pts/0; echo ok > /dev/tty; echo ok > /dev/stdout", "", "1000:5 620\nok\nok\n"},
		"gives what is typed":         {nil, "stty -echo; echo go; read x; echo got $x", "word\n", "go\n(word\n)?got word\n"},
		"sends interrupts":            {nil, "trap 'echo caught; exit 3' INT; echo go; for i in 1 2 3 4 5 6 7 8 9; do sleep 1; done", "\x03", "(?s).*caught\n"},
		"leaves no other descriptors": {nil, "for f in /proc/1/fd/*; do readlink $f; done | sort -u | grep -v '^$'", "", "/dev/pts/0\n(/proc/1/fd\n)?"},
		"works with the host's /dev/shm only": {func(s *specs.Spec) { s.Root = &specs.Root{Readonly: true} },
			"echo ok", "", "ok\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := tty(tc.script)
			if tc.edit != nil {
				tc.edit(s)
			}
			p, err := Compile(s, overlayOf(t))
			out, _ := onTerminal(t, p, err, tc.typed)
			if !fullMatch(tc.want, out) {
				t.Errorf("got %q, want %q", out, tc.want)
			}
		})
	}
}

func TestTerminalOfExec(t *testing.T) {
	spec := specOf("sleep", "1000")
	target := background(t, spec, overlayOf(t))
	p := *spec.Process
	p.Terminal = true
	p.Args = []string{"/bin/sh", "-c", "tty; stat -c %t /dev/console 2>/dev/null || echo none; echo ok > /dev/tty; exit 5"}
	prepared, err := CompileExec(spec, &p)
	for n := range 2 { // the first terminal is gone, so its name is free again
		out, ws := onTerminal(t, prepared, err, "", func(s *Start) { s.TargetPidfd = target.Pidfd })
		if out != "/dev/pts/0\nnone\nok\n" || ws.ExitStatus() != 5 {
			t.Fatalf("%d: %q, status %#x", n, out, ws)
		}
	}
	if host, err := os.ReadDir("/dev/pts"); err == nil {
		t.Logf("the host has %d entries in /dev/pts", len(host))
	}
}
