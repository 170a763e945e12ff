package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	if err := rootCommand().Execute(); err != nil {
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
  berth config default   print the commented default configuration`,
		Args: cobra.NoArgs,
		RunE: help,
		// main prints the error once; usage after a failed start helps nobody.
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(serveCommand(), configCommand(), doctorCommand(), versionCommand())
	return root
}

// help is what a command that only holds others does when called alone. Being
// runnable, it also refuses a word that is none of them.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }
