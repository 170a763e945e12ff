package container

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/containerd/errdefs"
)

// Exec runs a command in the container with a client's streams, through a
// terminal or through pipes, and returns its exit code. When the context ends,
// the command and all that it started are killed. ErrFailedPrecondition when the
// container does not run; ErrUnavailable when the monitor died meanwhile.
func (s *Service) Exec(ctx context.Context, id string, args []string, terminal bool, client Streams) (code int, err error) {
	c, err := s.executable(id, args)
	if err != nil {
		return 0, err
	}
	var exit monitor.Exit
	if terminal {
		exit, err = s.execTerminal(ctx, c, args, client)
	} else {
		exit, err = s.execPipes(ctx, c, args, client)
	}
	if err == nil && !exit.Known {
		err = fmt.Errorf("the command's exit code was lost: %w", errdefs.ErrUnavailable)
	}
	return exit.Code, err
}

func (s *Service) execPipes(ctx context.Context, c *Container, args []string, client Streams) (exit monitor.Exit, err error) {
	prepared, err := c.prepareExec(args)
	if err != nil {
		return exit, fmt.Errorf("prepare exec: %w", err)
	}
	p, err := openPipes(client)
	if err != nil {
		return exit, fmt.Errorf("prepare exec: %w", err)
	}
	defer p.close()
	x, err := s.startCommand(ctx, c, prepared, monitor.ExecRequest{Stdin: p.child[0], Stdout: p.child[1], Stderr: p.child[2]})
	p.closeChild()
	if err != nil {
		return exit, err
	}
	defer x.close(ctx)
	outputs := p.connect(client)
	if exit, err = x.wait(ctx); err != nil {
		return exit, err
	}
	p.drain(s.settings.Load().Drain)
	outputs.Wait()
	return exit, nil
}

// pipes lead to and from a command.
type pipes struct {
	ours, child [3]*os.File // nil: not wanted, /dev/null
}

func openPipes(client Streams) (*pipes, error) {
	p := &pipes{}
	var err error
	if client.Stdin != nil {
		p.child[0], p.ours[0], err = linux.InputPipe()
	}
	if client.Stdout != nil && err == nil {
		p.ours[1], p.child[1], err = linux.Pipe()
	}
	if client.Stderr != nil && err == nil {
		p.ours[2], p.child[2], err = linux.Pipe()
	}
	if err != nil {
		p.close()
		p.closeChild()
		return nil, err
	}
	return p, nil
}

// connect begins to copy. The end of the client's input is the end of the
// command's.
func (p *pipes) connect(client Streams) (outputs *sync.WaitGroup) {
	outputs = &sync.WaitGroup{}
	if in := p.ours[0]; in != nil {
		go func() {
			defer in.Close()
			input(in, client.Stdin)
		}()
	}
	if client.Stdout != nil {
		outputs.Go(func() { output(client.Stdout, p.ours[1]) })
	}
	if client.Stderr != nil {
		outputs.Go(func() { output(client.Stderr, p.ours[2]) })
	}
	return outputs
}

// drain bounds how long outputs are read after the end of the command: what it
// left in the background may hold them open for ever (containerd#9668).
func (p *pipes) drain(limit time.Duration) {
	for _, f := range p.ours[1:] {
		if f != nil {
			f.SetReadDeadline(time.Now().Add(limit))
		}
	}
}

func (p *pipes) close()      { closeFiles(p.ours[:]) }
func (p *pipes) closeChild() { closeFiles(p.child[:]) }

func closeFiles(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

func (s *Service) execTerminal(ctx context.Context, c *Container, args []string, client Streams) (exit monitor.Exit, err error) {
	w := follow(client.Resize)
	prepared, err := c.prepareTerminalExec(args, w)
	if err != nil {
		return exit, fmt.Errorf("prepare exec: %w", err)
	}
	x, err := s.startCommand(ctx, c, prepared, monitor.ExecRequest{})
	if err != nil {
		return exit, err
	}
	defer x.close(ctx) // hangs up: who is left of the session gets SIGHUP
	w.set(func(columns, rows uint16) { linux.SetWindowSize(x.Console, columns, rows) })
	defer w.set(nil)
	var out sync.WaitGroup
	out.Go(func() { output(client.Stdout, x.Console) })
	if client.Stdin != nil {
		go func() {
			input(x.Console, client.Stdin)
			typeEnd(x.Console)
		}()
	}
	if exit, err = x.wait(ctx); err != nil {
		return exit, err
	}
	x.Console.SetReadDeadline(time.Now().Add(s.settings.Load().Drain))
	out.Wait()
	return exit, nil
}

// typeEnd types end of file, as a person would: a terminal has no other, as
// closing it is hanging up, which kills who reads. It is typed again and again
// until the terminal is closed, for the first may only end a line that was begun,
// or be lost to a shell that starts its own line editing just then.
func typeEnd(console *os.File) {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		char, err := linux.EndOfFile(console)
		if err != nil || char == 0 {
			return
		}
		if _, err := console.Write([]byte{char}); err != nil {
			return
		}
		time.Sleep(wait)
	}
}
