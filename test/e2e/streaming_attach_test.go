package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"k8s.io/client-go/tools/remotecommand"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// parrot repeats each line of its input to both outputs.
const parrot = `while read x; do echo "out $x"; echo "err $x" >&2; done; echo end; exit 5`

func withStdin(c *runtimeapi.ContainerConfig) { c.Stdin = true }

func withStdinOnce(c *runtimeapi.ContainerConfig) { c.Stdin, c.StdinOnce = true, true }

func withTerminal(c *runtimeapi.ContainerConfig) { c.Stdin, c.Tty = true, true }

// talker is a pod with a container that runs a script.
func (n *node) talker(name, script string, change ...func(*runtimeapi.ContainerConfig)) string {
	n.t.Helper()
	return n.run(n.pod(n.podConfig(name, hostNetwork)), containerConfig("c", script, change...))
}

func (n *node) wantLog(id, text string) {
	n.t.Helper()
	eventually(n.t, callLimit, "the log", func() error {
		if got := n.logged(n.status(id).LogPath, "stdout"); got != text {
			return errors.New(got)
		}
		return nil
	})
}

// Several clients, of both transports, hear the same from their arrival on, each
// may speak, and none is missed.
func TestStreamAttach(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	id := n.talker("parrot", parrot, withStdin)
	w := want{stdin: true}
	a := n.attach("SPDY", id, w)
	b := n.attach("WebSocket", id, w)
	listener := n.attach("SPDY", id, want{})
	all := []*stream{a, b, listener}
	n.attached(id, 3)
	a.say("one\n")
	for _, s := range all {
		s.prints("out one\n")
	}
	b.say("two\n")
	for _, s := range all {
		s.prints("out one\nout two\n")
		eventually(t, callLimit, "stderr", func() error {
			if s.errs.String() != "err one\nerr two\n" {
				return errors.New(s.errs.String())
			}
			return nil
		})
	}
	late := n.attach("WebSocket", id, w)
	n.attached(id, 4)
	b.stdin.Close() // of a container without stdin_once: it is the client that leaves
	if err := b.ended(); err != nil {
		t.Errorf("a client that left: %v", err)
	}
	listener.cancel() // goes without a word
	n.attached(id, 2)
	late.say("three\n")
	late.prints("out three\n")
	a.prints("out one\nout two\nout three\n")
	n.wantLog(id, "out one\nout two\nout three\n")
	n.stop(id, 0)
	for _, s := range []*stream{a, late} {
		if err := s.ended(); err != nil {
			t.Errorf("at the container's exit: %v", err)
		}
	}
	if got := listener.out.String(); got != "out one\nout two\n" {
		t.Errorf("after it went: %q", got)
	}
}

// attached waits until the monitor copies to so many clients.
func (n *node) attached(id string, clients int) {
	n.t.Helper()
	eventually(n.t, callLimit, fmt.Sprintf("%d clients are attached", clients), func() error {
		if got := len(buffers(n, n.monitor())); got != 2*clients { // one for each output
			return fmt.Errorf("%d buffers", got)
		}
		return nil
	})
}

// buffers are the files without a name that a process has open.
func buffers(n *node, pid int) (found []string) {
	for _, f := range descriptors(pid, n.path("root")) {
		if strings.Contains(f, "/#") {
			found = append(found, f)
		}
	}
	return found
}

// stdin_once: the end of the first client's input is the container's, for good.
func TestStreamAttachOnce(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	eachTransport(n, func(n *node, transport string) {
		id := n.talker("once-"+strings.ToLower(transport), parrot, withStdinOnce)
		s := n.attach(transport, id, want{stdin: true})
		n.attached(id, 1)
		s.say("word\n")
		s.prints("out word\n")
		s.stdin.Close()
		if err := s.ended(); err != nil || s.out.String() != "out word\nend\n" {
			n.t.Errorf("%q, %v", s.out, err)
		}
		if st := n.wait(id); st.ExitCode != 5 {
			n.t.Errorf("%v", st)
		}
	})
	// It stays closed: for the next client, for the next daemon, for the next monitor.
	id := n.talker("closed", "cat; echo end; while :; do echo tick; sleep 0.1; done", withStdinOnce)
	s := n.attach("SPDY", id, want{stdin: true})
	n.attached(id, 1)
	s.say("text\n")
	s.stdin.Close()
	eventually(t, callLimit, "the end", func() error {
		if out := s.out.String(); !strings.HasPrefix(out, "text\nend\n") {
			return errors.New(out)
		}
		return nil
	})
	for _, next := range []func(){func() {}, n.restart, n.killMonitor} {
		next()
		s := n.attach("SPDY", id, want{stdin: true})
		s.say("lost\n")
		eventually(t, callLimit, "output without input", func() error {
			if out := s.out.String(); strings.Count(out, "tick") < 2 || strings.Contains(out, "lost") {
				return errors.New(out)
			}
			return nil
		})
		s.cancel()
	}
}

// Input for a container without is thrown away, and does not end anything.
func TestStreamAttachNoStdin(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	id := n.talker("deaf", "while :; do echo tick; cat; sleep 0.1; done")
	s := n.attach("SPDY", id, want{stdin: true})
	s.say(strings.Repeat("nobody hears this\n", 100_000))
	s.stdin.Close()
	eventually(t, callLimit, "output", func() error {
		if out := s.out.String(); strings.Count(out, "tick") < 3 || strings.Contains(out, "hears") {
			return errors.New(out)
		}
		return nil
	})
	n.stop(id, 0)
	if err := s.ended(); err != nil {
		t.Error(err)
	}
}

func TestStreamAttachTerminal(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	id := n.talker("tty", "stty -echo; trap 'stty size' WINCH; echo ready; while :; do read x && echo got $x; done", withTerminal)
	w := want{stdin: true, tty: true, size: &remotecommand.TerminalSize{Width: 70, Height: 30}}
	eventually(t, callLimit, "it is ready", func() error {
		if got := n.logged(n.status(id).LogPath, "stdout"); !strings.Contains(got, "ready") {
			return errors.New(got)
		}
		return nil
	})
	a := n.attach("SPDY", id, w)
	a.prints("30 70\r\n")
	b := n.attach("WebSocket", id, want{stdin: true, tty: true})
	n.attachedTerminals(id, 2)
	b.resize <- remotecommand.TerminalSize{Width: 71, Height: 31}
	b.prints("31 71\r\n")
	a.say("a word\r")
	b.prints("31 71\r\ngot a word\r\n")
	b.say("another\r")
	b.prints("31 71\r\ngot a word\r\ngot another\r\n")
	b.stdin.Close() // detaches; nothing is typed
	if err := b.ended(); err != nil {
		t.Error(err)
	}
	a.cancel()
	n.attachedTerminals(id, 0)
	n.restart()
	c := n.attach("SPDY", id, want{stdin: true, tty: true})
	n.attachedTerminals(id, 1)
	c.say("still here\r")
	c.prints("got still here\r\n")
	n.killMonitor()
	c.ended()
	d := n.attach("SPDY", id, want{stdin: true, tty: true})
	n.attachedTerminals(id, 1)
	d.say("and here\r")
	d.prints("got and here\r\n")
	n.stop(id, 0)
	if err := d.ended(); err != nil {
		t.Error(err)
	}
}

// attachedTerminals is attached for a terminal, which has one output.
func (n *node) attachedTerminals(id string, clients int) {
	n.t.Helper()
	eventually(n.t, callLimit, fmt.Sprintf("%d clients are attached", clients), func() error {
		if got := len(buffers(n, n.monitor())); got != clients {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
}

// A client that does not read holds up neither the container, nor its log, nor
// another client, and gets all when it reads.
func TestStreamAttachSlow(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	size := 30000000
	if slow > 1 { // client-go does not wait for ever for the next byte
		size = 9000000
	}
	eachTransport(n, func(n *node, transport string) {
		id := n.talker("slow-"+strings.ToLower(transport), fmt.Sprintf("read x; yes 0123456789abcde | head -c %d; echo end; read x", size), withStdin)
		slow := &slowWriter{let: make(chan struct{})}
		s := n.attach(transport, id, want{stdin: true, stdout: slow})
		quick := n.attach(transport, id, want{})
		n.attached(id, 2)
		s.say("go\n")
		eventually(n.t, callLimit, "the quick client has all", func() error {
			if got := quick.out.String(); !strings.HasSuffix(got, "end\n") {
				return fmt.Errorf("%d bytes", len(got))
			}
			return nil
		})
		log := n.logged(n.status(id).LogPath, "stdout")
		if len(log) != size+4 || log != quick.out.String() {
			n.t.Errorf("%d bytes in the log, %d with the client, the same: %t", len(log), len(quick.out.String()), log == quick.out.String())
		}
		n.stop(id, 0)
		close(slow.let)
		if err := s.ended(); err != nil || slow.b.String() != log {
			n.t.Errorf("the slow client: %d bytes, %v", slow.b.Len(), err)
		}
	})
	if left := buffers(n, n.cmd.Process.Pid); len(left) > 0 {
		t.Errorf("buffers left in the daemon: %v", left)
	}
}

// A client hears why it ends when the daemon stops or the monitor dies; the
// container hears nothing of either, and can be attached to again.
func TestStreamAttachAndDeath(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	id := n.talker("parrot", parrot, withStdinOnce)
	said := ""
	for i, end := range []struct {
		how  string
		do   func()
		word string
	}{
		{"the daemon stops", func() { n.terminate(); n.start() }, "the daemon stops"},
		{"the daemon is killed", n.restart, ""},
		{"the monitor is killed", n.killMonitor, "attach again"},
		{"the daemon stops once more", func() { n.terminate(); n.start() }, "the daemon stops"},
	} {
		for transport := range transports {
			s := n.attach(transport, id, want{stdin: true})
			n.attached(id, 1)
			word := fmt.Sprintf("%d %s", i, transport)
			s.say(word + "\n")
			s.prints("out " + word + "\n")
			said += "out " + word + "\n"
			end.do()
			err := s.ended()
			if end.word != "" && (err == nil || !strings.Contains(err.Error(), end.word)) {
				t.Errorf("%s, %s: the client heard: %v", end.how, transport, err)
			}
			s.cancel()
			n.attached(id, 0)
		}
	}
	n.wantLog(id, said)
	if st := n.status(id); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("%v", st)
	}
}

// Clients come and go, and leave nothing.
func TestStreamAttachOften(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	id := n.talker("counter", counter)
	before := len(entries(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid)))
	for i := range 40 {
		transport := "SPDY"
		if i%2 == 1 {
			transport = "WebSocket"
		}
		s := n.attach(transport, id, want{})
		eventually(t, callLimit, "output", func() error {
			if s.out.String() == "" {
				return errors.New("none")
			}
			return nil
		})
		s.cancel()
	}
	n.attached(id, 0)
	eventually(t, callLimit, "the daemon has closed all", func() error {
		if now := len(entries(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid))); now > before+2 {
			return fmt.Errorf("%d descriptors, before %d", now, before)
		}
		return nil
	})
	n.stop(id, 0)
	n.counted(n.status(id).LogPath)
}
