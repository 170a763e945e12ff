package container

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-cri/berth/runtime/monitor"
)

// Output is what a command has printed and how it ended.
type Output struct {
	Stdout, Stderr []byte
	Code           int32
}

// ExecSync runs a command in the container to its end. After timeout (0: none)
// everything that it started is killed and the error is DeadlineExceeded, which
// a probe takes for a failure. Output beyond outputLimit is read and dropped.
// ErrFailedPrecondition when the container does not run.
func (s *Service) ExecSync(ctx context.Context, id string, args []string, timeout time.Duration) (*Output, error) {
	c, err := s.executable(id, args)
	if err != nil {
		return nil, err
	}
	prepared, err := c.prepareExec(args)
	if err != nil {
		return nil, fmt.Errorf("prepare exec: %w", err)
	}
	out, err := newCapture(2)
	if err != nil {
		return nil, fmt.Errorf("prepare exec: %w", err)
	}
	defer out.close()
	x, err := s.startCommand(ctx, c, prepared, monitor.ExecRequest{
		Stdout: out.write[0], Stderr: out.write[1], Timeout: timeout,
	})
	out.started()
	if err != nil {
		return nil, err
	}
	defer x.close(ctx)
	exit, err := x.wait(ctx)
	if err != nil {
		return nil, err
	}
	if exit.TimedOut {
		return nil, fmt.Errorf("command timed out after %s: %w", timeout, context.DeadlineExceeded)
	}
	printed := out.drain(s.settings.Load().Drain)
	return &Output{Stdout: printed[0], Stderr: printed[1], Code: int32(exit.Code)}, nil
}
