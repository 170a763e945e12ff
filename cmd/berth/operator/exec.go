package operator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func execCommand() *cobra.Command {
	var e execution
	cmd := asks(&cobra.Command{
		Use:   "exec CONTAINER COMMAND [ARG...]",
		Short: "Run a command in a running container",
		Long: `Run a command in a running container. The exit code is that of the command.

With --sync the command runs without input and its output comes at its end: that
is how the kubelet's probes run it.`,
		Example:           "  berth exec -it web sh\n  berth exec --sync --timeout 2s web cat /ready",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: atMost(1, containers),
	}, func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
		if e.sync && (e.stdin || e.tty) {
			return errors.New("--sync goes with neither --stdin nor --tty")
		}
		if e.timeout != 0 && !e.sync {
			return errors.New("--timeout goes with --sync only")
		}
		x, err := c.container(ctx, args[0])
		if err != nil {
			return err
		}
		if e.sync {
			return e.runSync(ctx, c, cmd, x.Id, args[1:])
		}
		return e.run(ctx, c, cmd, x.Id, args[1:])
	})
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the container is the command's
	f.BoolVarP(&e.stdin, "stdin", "i", false, "pass standard input on")
	f.BoolVarP(&e.tty, "tty", "t", false, "give the command a terminal")
	f.BoolVarP(&e.sync, "sync", "s", false, "run it as a probe")
	f.DurationVar(&e.timeout, "timeout", 0, "with --sync: kill it after this `TIME`")
	return cmd
}

type execution struct {
	stdin, tty, sync bool
	timeout          time.Duration
}

func (e *execution) runSync(ctx context.Context, c *client, cmd *cobra.Command, id string, command []string) error {
	// The CRI counts in whole seconds, and 0 is for ever.
	seconds := int64((e.timeout + time.Second - 1) / time.Second)
	r, err := c.runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: command, Timeout: seconds})
	if err != nil {
		return err
	}
	if _, err := cmd.OutOrStdout().Write(r.Stdout); err != nil {
		return err
	}
	if _, err := cmd.ErrOrStderr().Write(r.Stderr); err != nil {
		return err
	}
	if r.ExitCode != 0 {
		return &ExitError{int(r.ExitCode)}
	}
	return nil
}

func (e *execution) run(ctx context.Context, c *client, cmd *cobra.Command, id string, command []string) error {
	in, isFile := cmd.InOrStdin().(*os.File)
	terminal := e.tty && isFile && term.IsTerminal(int(in.Fd()))
	if e.tty && e.stdin && !terminal {
		fmt.Fprintln(cmd.ErrOrStderr(), "berth: standard input is no terminal; the command gets one all the same")
	}
	r, err := c.runtime.Exec(ctx, &runtimeapi.ExecRequest{
		ContainerId: id, Cmd: command, Tty: e.tty, Stdin: e.stdin, Stdout: true, Stderr: !e.tty,
	})
	if err != nil {
		return err
	}
	s := streams{stdout: cmd.OutOrStdout()}
	if e.stdin {
		s.stdin = cmd.InOrStdin()
	}
	if !e.tty {
		s.stderr = cmd.ErrOrStderr()
	}
	if terminal {
		if e.stdin {
			before, err := term.MakeRaw(int(in.Fd()))
			if err != nil {
				return fmt.Errorf("prepare the terminal: %w", err)
			}
			defer term.Restore(int(in.Fd()), before)
		}
		sizes, stop := watchSize(in)
		defer stop()
		s.resize = sizes
	}
	return stream(ctx, r.Url, s)
}

// watchSize tells the size of a terminal, now and at every change.
func watchSize(f *os.File) (<-chan terminalSize, func()) {
	sizes := make(chan terminalSize, 1)
	changed := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(changed, unix.SIGWINCH)
	go func() {
		for {
			if w, h, err := term.GetSize(int(f.Fd())); err == nil {
				select {
				case sizes <- terminalSize{uint16(w), uint16(h)}:
				case <-done:
					return
				}
			}
			select {
			case <-changed:
			case <-done:
				return
			}
		}
	}()
	return sizes, func() { signal.Stop(changed); close(done) }
}
