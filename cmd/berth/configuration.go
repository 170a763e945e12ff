package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-cri/berth/config"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the default configuration, check the present one, compare it with what runs",
		Args:  cobra.NoArgs,
		RunE:  help,
	}
	cmd.AddCommand(configDefaultCommand(), configCheckCommand(), configDiffCommand())
	return cmd
}

func configDefaultCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "default",
		Short:   "Print the commented default configuration",
		Example: "  berth config default > " + config.DefaultPath,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.DefaultTOML())
			return err
		},
	}
}

func configCheckCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate the configuration that serve would use",
		Long: `Read the configuration as serve would, with the same flags, and name everything
that is wrong with it: the file, the key and the reason.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := s.load(cmd.Flags())
			if err == nil {
				err = checkHandlers(cfg)
			}
			if err != nil {
				return fmt.Errorf("the configuration is not valid:\n%w", err)
			}
			from := "built-in defaults"
			if files := cfg.Files(); len(files) > 0 {
				from = strings.Join(files, ", ")
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The configuration is valid (%s).\n", from)
			return err
		},
	}
	s.register(cmd.Flags())
	return cmd
}
