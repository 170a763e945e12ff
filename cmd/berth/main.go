package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/cmd/berth/operator"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := rootCommand().ExecuteContext(ctx); err != nil {
		var exit *operator.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.Code)
		}
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			os.Exit(130) // as a shell says it of ^C
		}
		fmt.Fprintln(os.Stderr, "berth:", err)
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "berth",
		Short: "A Kubernetes node runtime (CRI)",
		Long: `Berth runs the containers of a Kubernetes node. It serves the Container Runtime
Interface on a unix socket; its clients are the kubelet and crictl.

  berth serve            run the daemon
  berth doctor           show what this host offers, and what Berth does about the rest
  berth config default   print the commented default configuration
  berth ps, logs, exec…  what crictl does, and more`,
		Args: cobra.NoArgs,
		RunE: help,
		// main prints the error once; usage after a failed start helps nobody.
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(serveCommand(), configCommand(), cleanupCommand(), doctorCommand(), versionCommand())
	root.AddCommand(operator.Commands()...)
	return root
}

// help is what a command that only holds others does when called alone. Being
// runnable, it also refuses a word that is none of them.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }
