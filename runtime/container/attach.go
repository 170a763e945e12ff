package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/index"
	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/containerd/errdefs"
)

// ErrDaemonStops is the cause of a context that ends because the daemon does:
// what a client had attached to goes on as if nobody had been there.
var ErrDaemonStops = errors.New("the daemon stops")

// AttachClient gives a client what the container prints from now on, and the container
// what the client types. It returns when the container has exited or the context
// ends, and at the end of the client's input; then a container with stdin_once
// and no terminal reads end of file, and the client still gets all output, while
// for any other it is the client that leaves (containerd and Docker do the
// same). Input for a container that has none is read and thrown away.
// ErrFailedPrecondition: the container does not run. ErrResourceExhausted: the
// client reads far too slowly. ErrUnavailable: the monitor was replaced.
func (s *Service) AttachClient(ctx context.Context, id string, client Streams) error {
	c, err := s.index.Get(id)
	if err != nil {
		return err
	}
	if err := c.CheckRunning("attach"); err != nil {
		return err
	}
	if c.rec.Launch.Terminal {
		client.Stderr = nil
	}
	stdin, err := c.openStdin(client)
	if err != nil {
		return fmt.Errorf("open standard input: %w", err)
	}
	if stdin != nil {
		defer stdin.Close()
	}
	a, err := s.monitor.Attach(ctx, c.rec.ID, index.NewID(), s.SpoolDir, client.Stdout != nil, client.Stderr != nil)
	if err != nil {
		return precondition(err)
	}
	defer c.followWindow(client)()
	var dismissed atomic.Bool // we end it, not the client
	switch {
	case stdin != nil:
		go func() {
			input(stdin, client.Stdin)
			stdin.Close()
			if !dismissed.Load() && !errors.Is(context.Cause(ctx), ErrDaemonStops) {
				s.inputEnded(context.WithoutCancel(ctx), c, a, client)
			}
		}()
	case client.Stdin != nil:
		go input(io.Discard, client.Stdin)
	}
	err = a.Copy(ctx, client.Stdout, client.Stderr)
	if err != nil {
		dismissed.Store(errdefs.IsUnavailable(err) || errdefs.IsResourceExhausted(err))
		return fmt.Errorf("attached to container %s: %w", c.rec.ID, err)
	}
	return nil
}

// followWindow gives the container's terminal the size of the client's, until
// stop is called.
func (c *Container) followWindow(client Streams) (stop func()) {
	if !c.rec.Launch.Terminal {
		return func() {}
	}
	w := follow(client.Resize)
	w.set(func(columns, rows uint16) {
		c.use(func(l *live) error { return linux.SetWindowSize(l.console, columns, rows) })
	})
	return func() { w.set(nil) }
}

// inputEnded is called when a client has typed all that it will.
func (s *Service) inputEnded(ctx context.Context, c *Container, a *monitor.Attachment, client Streams) {
	once := c.rec.Config.GetStdinOnce() && !c.rec.Launch.Terminal
	if once {
		s.endStdin(ctx, c)
	}
	if !once || client.Stdout == nil && client.Stderr == nil {
		a.Detach()
	}
}

// openStdin opens an end for the client to write to; nil without input on either
// side.
func (c *Container) openStdin(client Streams) (f *os.File, err error) {
	if client.Stdin == nil || !c.rec.Config.GetStdin() {
		return nil, nil
	}
	if c.rec.Launch.Terminal {
		err = c.use(func(l *live) error {
			f, err = linux.Nonblocking(l.console)
			return err
		})
		return f, err
	}
	f, err = monitor.OpenStdin(c.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // the input of a stdin_once container is over
	}
	return f, err
}

// endStdin lets the container read end of file, once every client that is
// attached has left too. The pipe goes first: without it no later daemon and no
// later monitor opens it again.
func (s *Service) endStdin(ctx context.Context, c *Container) {
	err := monitor.RemoveStdin(c.dir)
	if err == nil {
		c.use(func(l *live) error { l.keepers.CloseStdin(); return nil })
		err = s.monitor.CloseStdin(ctx, c.rec.ID)
	}
	if err != nil {
		s.Log.Warn("close standard input", "container", c.rec.ID, "error", err)
	}
}
