package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// version is set by the linker; see the Makefile.
var version = "dev"

func versionCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info := struct {
				Version  string `json:"version"`
				CRI      string `json:"cri"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{version, "v1", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			switch output {
			case "text":
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "berth %s (CRI %s, %s, %s)\n", info.Version, info.CRI, info.Go, info.Platform)
				return err
			case "json":
				return writeJSON(cmd, info)
			}
			return unknownOutput(output)
		},
	}
	outputFlag(cmd, &output, "text")
	return cmd
}

func outputFlag(cmd *cobra.Command, output *string, first string) {
	cmd.Flags().StringVarP(output, "output", "o", first, "`FORMAT`: "+first+" or json")
}

func unknownOutput(output string) error {
	return fmt.Errorf("--output %q is not a format of this command", output)
}

func writeJSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
