package streaming

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/berth-cri/berth/runtime/container"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"
)

// command is an exec or an attach, with the streams that were granted.
type command struct {
	doing   string // for errors
	streams remotecommand.Options
	run     func(ctx context.Context, client container.Streams) error
}

func (s *Server) exec(w http.ResponseWriter, req *http.Request) {
	r, ok := s.tokens.take(req.PathValue("token")).(*runtimeapi.ExecRequest)
	if !ok {
		http.NotFound(w, req)
		return
	}
	c := &command{
		doing:   "executing command in container",
		streams: remotecommand.Options{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, TTY: r.Tty},
		run: func(ctx context.Context, client container.Streams) error {
			code, err := s.Containers.Exec(ctx, r.ContainerId, r.Cmd, r.Tty, client)
			if err == nil && code != 0 {
				err = utilexec.CodeExitError{Err: fmt.Errorf("exit code %d", code), Code: code}
			}
			return err
		},
	}
	defer finish(req)
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(req) {
		s.serveV5(w, req, c)
		return
	}
	remotecommand.ServeExec(w, req, c, "", "", r.ContainerId, r.Cmd, &c.streams,
		s.idleTimeout(), s.CreationTimeout, remotecommand.SupportedStreamingProtocols)
}

func (s *Server) attach(w http.ResponseWriter, req *http.Request) {
	r, ok := s.tokens.take(req.PathValue("token")).(*runtimeapi.AttachRequest)
	if !ok {
		http.NotFound(w, req)
		return
	}
	c := &command{
		doing:   "attaching to container",
		streams: remotecommand.Options{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, TTY: r.Tty},
		run: func(ctx context.Context, client container.Streams) error {
			return s.Containers.AttachClient(ctx, r.ContainerId, client)
		},
	}
	defer finish(req)
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(req) {
		s.serveV5(w, req, c)
		return
	}
	remotecommand.ServeAttach(w, req, c, "", "", r.ContainerId, &c.streams,
		s.idleTimeout(), s.CreationTimeout, remotecommand.SupportedStreamingProtocols)
}

// finish closes a connection that was upgraded. The library leaves one open when
// the client's streams do not come.
func finish(req *http.Request) {
	if c := connOf(req.Context()); c.hijacked.Load() {
		c.Close()
	}
}

// ExecInContainer is remotecommand.Executor.
func (c *command) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, errs io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	return c.serve(ctx, in, out, errs, resize)
}

// AttachContainer is remotecommand.Attacher.
func (c *command) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, errs io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	return c.serve(ctx, in, out, errs, resize)
}

// serve runs the command with those of a connection's streams that were granted:
// a WebSocket always has all.
func (c *command) serve(ctx context.Context, in io.Reader, out, errs io.WriteCloser, resize <-chan remotecommand.TerminalSize) error {
	var client container.Streams
	if c.streams.Stdin {
		client.Stdin = in
	}
	if c.streams.Stdout {
		client.Stdout = out
	}
	if c.streams.Stderr {
		client.Stderr = errs
	}
	if resize != nil {
		if c.streams.TTY {
			client.Resize = func() (columns, rows uint16, ok bool) {
				size, ok := <-resize
				return size.Width, size.Height, ok
			}
		} else {
			go func() { // what nobody takes would hold up the other streams
				for range resize {
				}
			}()
		}
	}
	go connOf(ctx).watch()
	err := c.run(ctx, client)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx) // and not "context canceled"
	}
	return err
}
