package operator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// atTerminal is standard input if a person is there.
func atTerminal(cmd *cobra.Command) (*os.File, bool) {
	f, ok := cmd.InOrStdin().(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// confirm asks a person; without one, nothing is done.
func confirm(ctx context.Context, cmd *cobra.Command, question string) (bool, error) {
	in, ok := atTerminal(cmd)
	if !ok {
		return false, errors.New("there is no terminal to ask at: --yes removes them, --dry-run only lists them")
	}
	fmt.Fprint(cmd.OutOrStdout(), question)
	answer, err := answered(ctx, func() (string, error) { return bufio.NewReader(in).ReadString('\n') })
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil { // the end of input is no yes
		return false, nil
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}

// askPassword reads one that is not shown.
func askPassword(ctx context.Context, cmd *cobra.Command, question string) (string, error) {
	in, ok := atTerminal(cmd)
	if !ok {
		return "", errors.New("there is no terminal to ask for the password at: use --password-stdin")
	}
	before, err := term.GetState(int(in.Fd()))
	if err != nil {
		return "", fmt.Errorf("prepare the terminal: %w", err)
	}
	defer term.Restore(int(in.Fd()), before) // ^C comes while nothing is shown
	fmt.Fprint(cmd.ErrOrStderr(), question)
	defer fmt.Fprintln(cmd.ErrOrStderr())
	return answered(ctx, func() (string, error) {
		b, err := term.ReadPassword(int(in.Fd()))
		return string(b), err
	})
}

// answered waits for an answer or for ^C, whatever comes first; who reads then
// reads on until the process ends.
func answered(ctx context.Context, read func() (string, error)) (answer string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer, err = read()
	}()
	select {
	case <-done:
		return answer, err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
