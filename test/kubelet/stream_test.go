package kubelet

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
)

func (a *api) rest() *restclient.Config {
	return &restclient.Config{Host: a.base, TLSClientConfig: restclient.TLSClientConfig{Insecure: true}}
}

func (a *api) url(path string, query url.Values) *url.URL {
	u, _ := url.Parse(a.base + path)
	u.RawQuery = query.Encode()
	return u
}

// protocols are the ways in which a client may stream.
var protocols = map[string]func(*restclient.Config, *url.URL) (remotecommand.Executor, error){
	"SPDY": func(c *restclient.Config, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewSPDYExecutor(c, http.MethodPost, u)
	},
	"WebSocket": func(c *restclient.Config, u *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(c, http.MethodGet, u.String())
	},
}

// stream runs an exec or attach to its end.
func (n *node) stream(protocol, path string, query url.Values, o remotecommand.StreamOptions) error {
	for name, set := range map[string]bool{"input": o.Stdin != nil, "output": o.Stdout != nil, "error": o.Stderr != nil, "tty": o.Tty} {
		if set {
			query.Set(name, "1")
		}
	}
	e, err := protocols[protocol](n.api.rest(), n.api.url(path, query))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	return e.StreamWithContext(ctx, o)
}

func podPath(call, pod, container string) string {
	return fmt.Sprintf("/%s/default/%s/%s", call, pod+suffix, container)
}

// exec runs a command that has to succeed.
func (n *node) exec(t *testing.T, pod, container string, command ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if err := n.stream("WebSocket", podPath("exec", pod, container), url.Values{"command": command}, remotecommand.StreamOptions{Stdout: &out, Stderr: &errs}); err != nil {
		t.Errorf("%s: %q: %v: %s", pod, command, err, errs.String())
	}
	return out.String()
}

// logs reads a container's log; query is what follows the question mark.
func (n *node) logs(pod, container string, query ...string) (string, error) {
	b, err := n.api.get(podPath("containerLogs", pod, container) + "?" + strings.Join(query, "&"))
	return string(b), err
}

func streaming(n *node, t *testing.T) {
	listens := sleeps("main")
	reads := shell("reads", "while read l; do echo got $l; done; echo end")
	reads.Stdin = true
	terminal := shell("terminal", "while read l; do echo got $l; done")
	terminal.Stdin, terminal.TTY = true, true
	n.ready(t, pod("streams", listens, terminal, web()))
	n.ready(t, pod("reads", reads))
	for protocol := range protocols {
		t.Run("exec "+protocol, func(t *testing.T) { execOver(n, t, protocol) })
		t.Run("attach "+protocol, func(t *testing.T) { attachOver(n, t, protocol) })
	}
	t.Run("run", func(t *testing.T) {
		r, err := n.api.client.Post(n.api.url(podPath("run", "streams", "main"), url.Values{"cmd": {"echo ran"}}).String(), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if b, err := io.ReadAll(r.Body); err != nil || r.StatusCode != 200 || string(b) != "ran\n" {
			t.Errorf("%s: %q, %v", r.Status, b, err)
		}
	})
	t.Run("port-forward", func(t *testing.T) { forward(n, t) })
	// Its input ends with berth and the monitor in one instant (runtime/monitor/doc.go).
	n.remove(t, "reads")
}

func execOver(n *node, t *testing.T, protocol string) {
	path := podPath("exec", "streams", "main")
	var out, errs bytes.Buffer
	err := n.stream(protocol, path, url.Values{"command": {"sh", "-c", "cat; echo bad >&2; exit 7"}}, remotecommand.StreamOptions{Stdin: strings.NewReader("through\n"), Stdout: &out, Stderr: &errs})
	if err == nil || !strings.Contains(err.Error(), "exit code 7") || out.String() != "through\n" || errs.String() != "bad\n" {
		t.Errorf("%v, %q, %q", err, out.String(), errs.String())
	}
	out.Reset()
	sizes := &oneSize{remotecommand.TerminalSize{Width: 111, Height: 33}}
	err = n.stream(protocol, path, url.Values{"command": {"sh", "-c", "sleep 0.5; stty size"}}, remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: &out, Tty: true, TerminalSizeQueue: sizes})
	if err != nil || !strings.Contains(out.String(), "33 111") {
		t.Errorf("terminal: %v, %q", err, out.String())
	}
	out.Reset()
	err = n.stream(protocol, path, url.Values{"command": {"dd", "if=/dev/zero", "bs=1M", "count=20"}}, remotecommand.StreamOptions{Stdout: &out, Stderr: io.Discard})
	if err != nil || out.Len() != 20<<20 {
		t.Errorf("20 MiB: %v, %d", err, out.Len())
	}
}

// oneSize tells a terminal's size once.
type oneSize struct{ size remotecommand.TerminalSize }

func (s *oneSize) Next() *remotecommand.TerminalSize {
	if s.size.Width == 0 {
		return nil
	}
	size := s.size
	s.size = remotecommand.TerminalSize{}
	return &size
}

// attachOver says a line and waits for the answer. The container goes on.
func attachOver(n *node, t *testing.T, protocol string) {
	for _, tty := range []bool{false, true} {
		pod, name := "reads", "reads"
		if tty {
			pod, name = "streams", "terminal"
		}
		in, typed := io.Pipe()
		heard := &syncBuffer{}
		done := make(chan error, 1)
		o := remotecommand.StreamOptions{Stdin: in, Stdout: heard, Tty: tty}
		if !tty {
			o.Stderr = io.Discard
		}
		go func() { done <- n.stream(protocol, podPath("attach", pod, name), url.Values{}, o) }()
		go typed.Write([]byte("hello " + protocol + "\n"))
		eventually(t, 20*time.Second, name+" answers", func() error {
			if !strings.Contains(heard.String(), "got hello "+protocol) {
				return fmt.Errorf("%q", heard.String())
			}
			return nil
		})
		// The client leaves. (Its end of input reaches the container, as there is no
		// way to leave without in this client; so the last one ends it.)
		in.CloseWithError(io.ErrUnexpectedEOF)
	}
}

// forward asks the web server through a port of this machine.
func forward(n *node, t *testing.T) {
	transport, upgrader, err := spdy.RoundTripperFor(n.api.rest())
	if err != nil {
		t.Fatal(err)
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, n.api.url("/portForward/default/streams"+suffix, nil))
	stop, ready := make(chan struct{}), make(chan struct{})
	f, err := portforward.New(dialer, []string{"0:8080"}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.ForwardPorts() }()
	defer func() { close(stop); <-done }()
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	ports, err := f.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", ports[0].Local))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || string(b) != "well\n" {
			t.Errorf("%q, %v", b, err)
		}
	}
}
