package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// insecureTLS takes any certificate.
var insecureTLS = &rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}

// transports are what clients of today ask for: kubectl and crictl use this code.
var transports = map[string]func(u string) (remotecommand.Executor, error){
	"SPDY": func(u string) (remotecommand.Executor, error) {
		parsed, err := url.Parse(u)
		if err != nil {
			return nil, err
		}
		return remotecommand.NewSPDYExecutor(insecureTLS, "POST", parsed)
	},
	"WebSocket": func(u string) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(insecureTLS, "GET", u)
	},
}

// older speaks an older subprotocol.
func older(websocket bool, protocol string) func(u string) (remotecommand.Executor, error) {
	return func(u string) (remotecommand.Executor, error) {
		if websocket {
			return remotecommand.NewWebSocketExecutorForProtocols(insecureTLS, "GET", u, protocol)
		}
		parsed, err := url.Parse(u)
		if err != nil {
			return nil, err
		}
		transport, upgrader, err := spdy.RoundTripperFor(insecureTLS)
		if err != nil {
			return nil, err
		}
		return remotecommand.NewSPDYExecutorForProtocols(transport, upgrader, "POST", parsed, protocol)
	}
}

// stream is a client with an exec or an attachment.
type stream struct {
	t      *testing.T
	stdin  *io.PipeWriter // nil: none
	resize chan remotecommand.TerminalSize
	out    *lockedBuffer
	errs   *lockedBuffer
	cancel context.CancelFunc // the client goes, without a word
	done   chan struct{}      // closed at the end
	err    error              // after done
}

// want says which streams a client opens.
type want struct {
	stdin, tty, noOutput bool
	size                 *remotecommand.TerminalSize
	stdout               io.Writer // instead of stream.out
}

// open begins to stream. The streams are those that were granted.
func open(t *testing.T, dial func(u string) (remotecommand.Executor, error), url string, w want) *stream {
	t.Helper()
	e, err := dial(url)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{t: t, out: &lockedBuffer{}, errs: &lockedBuffer{}, done: make(chan struct{}),
		resize: make(chan remotecommand.TerminalSize, 10)}
	o := remotecommand.StreamOptions{Tty: w.tty}
	if !w.noOutput {
		o.Stdout = s.out
		if w.stdout != nil {
			o.Stdout = w.stdout
		}
		if !w.tty {
			o.Stderr = s.errs
		}
	}
	if w.stdin {
		var r *io.PipeReader
		r, s.stdin = io.Pipe()
		o.Stdin = r
	}
	if w.tty {
		o.TerminalSizeQueue = s
		if w.size != nil {
			s.resize <- *w.size
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = sync.OnceFunc(func() {
		cancel()
		if s.stdin != nil {
			s.stdin.Close()
		}
		close(s.resize)
	})
	t.Cleanup(s.cancel)
	go func() {
		defer close(s.done)
		s.err = e.StreamWithContext(ctx, o)
	}()
	return s
}

// Next is remotecommand.TerminalSizeQueue.
func (s *stream) Next() *remotecommand.TerminalSize {
	size, ok := <-s.resize
	if !ok {
		return nil
	}
	return &size
}

// ended waits for the end and returns how it ended.
func (s *stream) ended() error {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(callLimit):
		s.t.Fatalf("the stream goes on; so far %q, %q", s.out, s.errs)
	}
	return s.err
}

// code is the exit code that the client was told; -1 when it was another error.
func (s *stream) code() int {
	s.t.Helper()
	err := s.ended()
	var exit utilexec.CodeExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	}
	s.t.Logf("the stream ended with: %v", err)
	return -1
}

func (s *stream) say(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.stdin, text); err != nil {
		s.t.Fatal(err)
	}
}

// prints waits until the output is exactly this.
func (s *stream) prints(text string) {
	s.t.Helper()
	eventually(s.t, callLimit, "output "+text, func() error {
		if got := s.out.String(); got != text {
			return errors.New(got)
		}
		return nil
	})
}

func (n *node) execURL(id string, w want, cmd ...string) string {
	n.t.Helper()
	r, err := n.rt.Exec(n.ctx(), &runtimeapi.ExecRequest{
		ContainerId: id, Cmd: cmd, Stdin: w.stdin, Stdout: !w.noOutput, Stderr: !w.noOutput && !w.tty, Tty: w.tty,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return r.Url
}

func (n *node) attachURL(id string, w want) string {
	n.t.Helper()
	r, err := n.rt.Attach(n.ctx(), &runtimeapi.AttachRequest{
		ContainerId: id, Stdin: w.stdin, Stdout: !w.noOutput, Stderr: !w.noOutput && !w.tty, Tty: w.tty,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return r.Url
}

// shell runs a script over a transport.
func (n *node) shell(transport, id string, w want, script string) *stream {
	n.t.Helper()
	return open(n.t, transports[transport], n.execURL(id, w, "sh", "-c", script), w)
}

// attach attaches over a transport.
func (n *node) attach(transport, id string, w want) *stream {
	n.t.Helper()
	return open(n.t, transports[transport], n.attachURL(id, w), w)
}

// eachTransport runs a part of a test over each transport.
func eachTransport(n *node, f func(n *node, transport string)) {
	for name := range transports {
		n.sub(name, func(n *node) { f(n, name) })
	}
}

// terminate stops the daemon as a service manager does.
func (n *node) terminate() {
	n.t.Helper()
	n.cmd.Process.Signal(unix.SIGTERM)
	if err := n.cmd.Wait(); err != nil {
		n.t.Errorf("the daemon ended with %v", err)
	}
}

// slowWriter takes nothing until it is let.
type slowWriter struct {
	let chan struct{}
	b   bytes.Buffer
}

func (s *slowWriter) Write(p []byte) (int, error) {
	<-s.let
	return s.b.Write(p)
}
