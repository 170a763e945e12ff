package operator

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// Commands are those of this package.
func Commands() []*cobra.Command {
	return []*cobra.Command{
		podsCommand(), psCommand(), imagesCommand(), inspectCommand(), logsCommand(), execCommand(),
		statsCommand(), topCommand(), eventsCommand(), dfCommand(), pruneCommand(), pullCommand(),
	}
}

// ExitError is the exit code of a command that ran in a container. There is
// nothing to print: the command has spoken for itself.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// asks makes a command of one that asks the daemon.
func asks(cmd *cobra.Command, run func(context.Context, *client, *cobra.Command, []string) error) *cobra.Command {
	var c connection
	c.register(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cl, err := c.dial()
		if err != nil {
			return err
		}
		defer cl.close()
		return plain(run(cmd.Context(), cl, cmd, args))
	}
	return cmd
}
