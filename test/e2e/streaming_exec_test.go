package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"k8s.io/client-go/tools/remotecommand"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestStreamExec(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("exec")
	eachTransport(n, func(n *node, transport string) {
		for name, tc := range map[string]struct {
			script         string
			stdout, stderr string
			code           int
		}{
			"nothing":                 {"", "", "", 0},
			"streams apart":           {"echo out; echo err >&2", "out\n", "err\n", 0},
			"failure with output":     {"echo no; exit 7", "no\n", "", 7},
			"a signal":                {"kill -TERM $$", "", "", 143},
			"bytes that are no text":  {`printf '\000\377\n'`, "\x00\xff\n", "", 0},
			"no input":                {"cat", "", "", 0},
			"closed output":           {"exec >&- 2>&-; exit 4", "", "", 4},
			"no descriptor of others": {"ls /proc/self/fd | wc -l", "4\n", "", 0},
		} {
			s := n.shell(transport, id, want{}, tc.script)
			code := s.code()
			if s.out.String() != tc.stdout || s.errs.String() != tc.stderr || code != tc.code {
				n.t.Errorf("%s: %q %q %d", name, s.out, s.errs, code)
			}
		}

		s := n.shell(transport, id, want{stdin: true}, "cat; echo end; exit 3")
		s.say("one\n")
		s.prints("one\n")
		s.say("two")
		s.stdin.Close() // which closes the command's input, and nothing else
		if code := s.code(); code != 3 || s.out.String() != "one\ntwoend\n" {
			n.t.Errorf("input: %q, code %d", s.out, code)
		}
		s = open(n.t, transports[transport], n.execURL(id, want{}, "/no/such"), want{})
		if err := s.ended(); err == nil || !strings.Contains(err.Error(), "/no/such") || !strings.Contains(err.Error(), "no such file") {
			n.t.Errorf("missing program: %v", err)
		}
	})
	n.noExecs(id)
}

// noExecs: no command is left in the container, and no cgroup of one.
func (n *node) noExecs(id string) {
	n.t.Helper()
	eventually(n.t, 20*time.Second, "all commands are gone", func() error {
		if left := n.execCgroups(); len(left) > 0 {
			out, _ := n.exec(id, "ps -o pid,ppid,stat,args")
			return fmt.Errorf("%v\n%s", left, out)
		}
		return nil
	})
}

// What a command leaves in the background holds up nobody; a terminal hangs up on
// it. Its cgroup stays until the container's end.
func TestStreamExecLeftovers(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("left")
	eachTransport(n, func(n *node, transport string) {
		for script, tty := range map[string]bool{
			"sleep 1000 & echo done; exit 3":                            false,
			"yes >&2 & sleep 0.1; echo done; exit 3":                    false,
			"sleep 1000 & (trap '' HUP; sleep 1001)& echo done; exit 3": true,
		} {
			s := n.shell(transport, id, want{tty: tty}, script)
			if code := s.code(); code != 3 || strings.TrimSpace(s.out.String()) != "done" {
				n.t.Errorf("%s: %q, code %d", script, s.out, code)
			}
		}
	})
}

func TestStreamExecTerminal(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("tty")
	eachTransport(n, func(n *node, transport string) {
		n.noExecs(id)
		w := want{stdin: true, tty: true, size: &remotecommand.TerminalSize{Width: 77, Height: 33}}
		// Without a size stty prints what the last call of anybody failed with.
		s := n.shell(transport, id, w, `stty -echo; until test "$(stty size 2>/dev/null)" = '33 77'; do sleep 0.01; done; trap 'stty size' WINCH; echo $TERM; test -c $(tty) && echo tty; test -t 2 && echo err >&2
			while :; do read x && break; done; stty size; echo got $x; exit 9`)
		s.prints("xterm\r\ntty\r\nerr\r\n")
		s.resize <- remotecommand.TerminalSize{Width: 100, Height: 50}
		s.prints("xterm\r\ntty\r\nerr\r\n50 100\r\n")
		s.say("word\r")
		if code := s.code(); code != 9 || !strings.HasSuffix(s.out.String(), "50 100\r\n50 100\r\ngot word\r\n") {
			n.t.Errorf("%q, code %d", s.out, code)
		}

		// The first size is the client's, never another.
		s = n.shell(transport, id, w, "until stty size | grep .; do sleep 0.01; done 2>/dev/null")
		if code := s.code(); code != 0 || s.out.String() != "33 77\r\n" {
			n.t.Errorf("first size: %q, code %d", s.out, code)
		}

		// The end of the input is ^D, as a person types it: after a whole line,
		// and in the middle of one.
		for text, wanted := range map[string]string{"line\n": "line\r\nend\r\n", "part": "partend\r\n", "": "end\r\n"} {
			s = n.shell(transport, id, w, "stty -echo; echo go; cat; echo end; exit 2")
			s.prints("go\r\n")
			if text != "" {
				s.say(text)
			}
			s.stdin.Close()
			if code := s.code(); code != 2 || s.out.String() != "go\r\n"+wanted {
				n.t.Errorf("end after %q: %q, code %d", text, s.out, code)
			}
		}
		s = open(n.t, transports[transport], n.execURL(id, w, "sh"), w)
		s.say("echo in a shell\n")
		s.stdin.Close()
		if code := s.code(); code != 0 || !strings.Contains(s.out.String(), "in a shell\r\n") {
			n.t.Errorf("a shell at the end of its input: %q, code %d", s.out, code)
		}

		cpu := n.cpu()
		s = n.shell(transport, id, w, "stty raw; exec sleep 3")
		s.stdin.Close() // nothing to read, nothing to write: nothing to do
		s.code()
		if took := n.cpu() - cpu; took > time.Second {
			n.t.Errorf("an idle terminal took %s of the processor", took)
		}
	})
	n.noExecs(id)
}

// cpu is what daemon and monitor have used.
func (n *node) cpu() (sum time.Duration) {
	n.t.Helper()
	for _, pid := range []int{n.cmd.Process.Pid, n.monitor()} {
		var user, system int64
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			n.t.Fatal(err)
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
		fmt.Sscan(f[11], &user)
		fmt.Sscan(f[12], &system)
		sum += time.Duration(user+system) * 10 * time.Millisecond
	}
	return sum
}

// A hundred MiB in and out at once, each byte as it was.
func TestStreamExecMuch(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("much")
	eachTransport(n, func(n *node, transport string) {
		sum, got := sha256.New(), sha256.New()
		w := want{stdin: true, stdout: got}
		s := n.shell(transport, id, w, "cat; echo end >&2; exit 6")
		block := make([]byte, 1<<20)
		random := rand.NewChaCha8([32]byte{1})
		for range 100 {
			random.Read(block)
			sum.Write(block)
			if _, err := s.stdin.Write(block); err != nil {
				n.t.Fatal(err)
			}
		}
		s.stdin.Close()
		if code := s.code(); code != 6 || s.errs.String() != "end\n" || !bytes.Equal(sum.Sum(nil), got.Sum(nil)) {
			n.t.Errorf("%q, code %d, same bytes: %t", s.errs, code, bytes.Equal(sum.Sum(nil), got.Sum(nil)))
		}

		// A command that does not want all its input still gives its exit code.
		for range 5 {
			s := n.shell(transport, id, want{stdin: true}, "head -c 1 | wc -c; exit 5")
			go func() {
				for range 20 {
					if _, err := s.stdin.Write(block); err != nil {
						return
					}
				}
				s.stdin.Close()
			}()
			if code := s.code(); code != 5 || s.out.String() != "1\n" {
				n.t.Errorf("input that is not wanted: %q, code %d", s.out, code)
			}
			s.cancel()
		}
		// A client that reads late misses nothing.
		slow := &slowWriter{let: make(chan struct{})}
		s = n.shell(transport, id, want{stdout: slow}, "head -c 3000000 /dev/zero; exit 8")
		time.Sleep(2 * time.Second) // longer than the daemon waits for the end of output
		close(slow.let)
		if code := s.code(); code != 8 || slow.b.Len() != 3000000 {
			n.t.Errorf("a late reader: %d bytes, code %d", slow.b.Len(), code)
		}
	})
	n.noExecs(id)
}

// When the client goes, what it started is killed: with nothing to read or to
// write, at a terminal, and with more input than is read.
func TestStreamExecDisconnect(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("gone")
	eachTransport(n, func(n *node, transport string) {
		for name, w := range map[string]want{
			"no input": {}, "input": {stdin: true}, "no output": {stdin: true, noOutput: true}, "terminal": {stdin: true, tty: true},
		} {
			s := n.shell(transport, id, w, "trap '' HUP TERM; touch /tmp/runs; setsid sleep 1000 & sleep 1000 & while :; do sleep 1; done")
			n.appears(id, "/tmp/runs")
			if name == "input" { // more than the command's pipe takes
				s.stdin.Write(make([]byte, 128<<10))
			}
			s.cancel()
			n.noExecs(id)
		}
	})
	if out, _ := n.exec(id, "ps -o args | grep -c '^sleep 1000'"); out != "1\n" {
		t.Errorf("the container's own process: %s", out)
	}
}

// appears waits for a file and removes it.
func (n *node) appears(id, path string) {
	n.t.Helper()
	eventually(n.t, callLimit, path, func() error {
		if out, code := n.exec(id, "rm "+path); code != 0 {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// What clients have spoken since 2015 is understood, with what each can tell.
func TestStreamOldProtocols(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("old")
	for name, tc := range map[string]struct {
		websocket bool
		protocol  string
		stdin     bool // can tell its end
		code      int
	}{
		"SPDY v4":      {false, "v4.channel.k8s.io", true, 7},
		"SPDY v3":      {false, "v3.channel.k8s.io", true, -1},
		"SPDY v2":      {false, "v2.channel.k8s.io", true, -1},
		"WebSocket v4": {true, "v4.channel.k8s.io", false, 7},
	} {
		w := want{stdin: tc.stdin}
		s := open(t, older(tc.websocket, tc.protocol), n.execURL(id, w, "sh", "-c", "cat; echo err >&2; exit 7"), w)
		if tc.stdin {
			s.say("text")
			s.stdin.Close()
		}
		if code := s.code(); code != tc.code || s.out.String() != map[bool]string{true: "text"}[tc.stdin] || s.errs.String() != "err\n" {
			t.Errorf("%s: %q %q %d", name, s.out, s.errs, code)
		}
	}
	w := want{}
	s := open(t, older(false, "channel.k8s.io"), n.execURL(id, w, "sh", "-c", "echo out; echo err >&2"), w)
	if s.ended(); s.out.String() != "out\n" || s.errs.String() != "err\n" {
		t.Errorf("SPDY v1: %q %q", s.out, s.errs)
	}
	n.noExecs(id)
}

func TestStreamRefused(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod, id := n.box("refused")
	created, err := n.create(pod, containerConfig("created", "true"))
	if err != nil {
		t.Fatal(err)
	}
	ended := n.run(pod, containerConfig("ended", "true"))
	n.wait(ended)
	type exec = runtimeapi.ExecRequest
	for name, tc := range map[string]struct {
		r     *exec
		code  codes.Code
		words string
	}{
		"no streams":          {&exec{ContainerId: id, Cmd: []string{"true"}}, codes.InvalidArgument, "stdin"},
		"terminal and stderr": {&exec{ContainerId: id, Cmd: []string{"true"}, Tty: true, Stdout: true, Stderr: true}, codes.InvalidArgument, "tty"},
		"no command":          {&exec{ContainerId: id, Stdout: true}, codes.InvalidArgument, "cmd"},
		"empty program":       {&exec{ContainerId: id, Cmd: []string{""}, Stdout: true}, codes.InvalidArgument, "cmd"},
		"unknown":             {&exec{ContainerId: "none", Cmd: []string{"true"}, Stdout: true}, codes.NotFound, "none"},
		"created":             {&exec{ContainerId: created, Cmd: []string{"true"}, Stdout: true}, codes.FailedPrecondition, "created"},
		"exited":              {&exec{ContainerId: ended, Cmd: []string{"true"}, Stdout: true}, codes.FailedPrecondition, "exited"},
	} {
		_, err := n.rt.Exec(n.ctx(), tc.r)
		wantCode(t, "exec: "+name, err, tc.code, tc.words)
		if tc.words == "cmd" {
			continue
		}
		_, err = n.rt.Attach(n.ctx(), &runtimeapi.AttachRequest{
			ContainerId: tc.r.ContainerId, Tty: tc.r.Tty, Stdin: tc.r.Stdin, Stdout: tc.r.Stdout, Stderr: tc.r.Stderr})
		wantCode(t, "attach: "+name, err, tc.code, tc.words)
	}
	stopped := n.pod(n.podConfig("stopped"))
	n.stopPod(stopped)
	for name, tc := range map[string]struct {
		pod   string
		ports []int32
		code  codes.Code
		words string
	}{
		"port 0":      {pod, []int32{80, 0}, codes.InvalidArgument, "port 0"},
		"port -1":     {pod, []int32{-1}, codes.InvalidArgument, "port -1"},
		"port 65536":  {pod, []int32{65536}, codes.InvalidArgument, "port 65536"},
		"unknown pod": {"none", nil, codes.NotFound, "none"},
		"stopped pod": {stopped, nil, codes.FailedPrecondition, "notready"},
	} {
		_, err := n.rt.PortForward(n.ctx(), &runtimeapi.PortForwardRequest{PodSandboxId: tc.pod, Port: tc.ports})
		wantCode(t, name, err, tc.code, tc.words)
	}

	// A container may end between the grant and the client.
	url := n.execURL(id, want{}, "true")
	n.stop(id, 0)
	s := open(t, transports["SPDY"], url, want{})
	if err := s.ended(); err == nil || !strings.Contains(err.Error(), "exited") {
		t.Errorf("exec in a container that has ended: %v", err)
	}
	// A token is good once.
	s = open(t, transports["SPDY"], url, want{})
	if err := s.ended(); err == nil || !strings.Contains(err.Error(), "404") && !strings.Contains(err.Error(), "not found") {
		t.Errorf("a token used twice: %v", err)
	}
}

// A connection over which nothing moves ends, and what it had started with it.
func TestStreamIdle(t *testing.T) {
	n := newNode(t, func(n *node) { n.config = "[streaming]\nidle_timeout = \"1s\"" })
	n.pull(busybox)
	_, id := n.box("idle")
	eachTransport(n, func(n *node, transport string) {
		busy := n.shell(transport, id, want{}, "for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.3; done; exit 4")
		idle := n.shell(transport, id, want{stdin: true}, "sleep 1000")
		idle.ended()
		if code := busy.code(); code != 4 {
			n.t.Errorf("a busy stream ended too: %q, code %d", busy.out, code)
		}
		n.noExecs(id)
	})
}

func TestStreamTLS(t *testing.T) {
	n := newNode(t, func(n *node) { n.config = "[streaming]\ntls = true\naddress = \"::\"" })
	n.pull(busybox)
	_, id := n.box("tls")
	eachTransport(n, func(n *node, transport string) {
		url := n.execURL(id, want{stdin: true}, "cat")
		if !strings.HasPrefix(url, "https://[::1]:") {
			n.t.Errorf("url: %s", url)
		}
		s := open(n.t, transports[transport], url, want{stdin: true})
		s.say("secret")
		s.stdin.Close()
		if code := s.code(); code != 0 || s.out.String() != "secret" {
			n.t.Errorf("%q, code %d", s.out, code)
		}
	})
}

// The daemon's stop ends what its clients run, each with a word; the container
// goes on.
func TestStreamExecAndDaemon(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("restart")
	for transport := range transports {
		s := n.shell(transport, id, want{stdin: true}, "echo up; sleep 1000")
		s.prints("up\n")
		n.terminate()
		if err := s.ended(); err == nil || !strings.Contains(err.Error(), "the daemon stops") {
			t.Errorf("%s: the client heard: %v", transport, err)
		}
		n.start()
		n.noExecs(id)
		s = n.shell(transport, id, want{}, "echo up; sleep 1000")
		s.prints("up\n")
		n.restart() // SIGKILL
		s.ended()
		n.noExecs(id)
		s = n.shell(transport, id, want{}, "echo up; sleep 1000")
		s.prints("up\n")
		n.killMonitor()
		if err := s.ended(); err == nil || !strings.Contains(err.Error(), "monitor") {
			t.Errorf("%s: the monitor died, the client heard: %v", transport, err)
		}
		n.noExecs(id)
	}
	if out, _ := n.exec(id, "echo alive"); out != "alive\n" {
		t.Error(out)
	}
}
