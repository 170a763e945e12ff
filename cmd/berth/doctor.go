package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berth-cri/berth/linux/probe"
)

// report is what doctor found, as -o json prints it.
type report struct {
	OK      bool          `json:"ok"` // nothing that Berth cannot do without is missing
	Checks  []check       `json:"checks"`
	Kernel  probe.Facts   `json:"kernel"`
	Root    probe.Place   `json:"root"`
	State   probe.Place   `json:"state"`
	Overlay probe.Overlay `json:"overlay"`
	// AppArmorProfile is the default one, as far as can be told without loading it.
	AppArmorProfile probe.Feature `json:"apparmor_profile"`
	SELinux         bool          `json:"selinux"` // is asked for by the configuration
}

func doctorCommand() *cobra.Command {
	var s settings
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Show what this host offers, and what Berth does about the rest",
		Long: `Try what Berth needs from this host: the kernel, cgroups, file systems,
security modules, network and limits. Each line is "ok", "note" (it is missing,
and the line below says what Berth does about it) or "FAIL" (Berth cannot run
containers without it). Then look at the node: whether the daemon answers and what
it says, the network's configuration, room on the disk, and what was left behind.
Needs no running daemon; run it as root.

The exit code is 1 if there is a FAIL.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return unknownOutput(output)
			}
			cfg, invalid := s.load(cmd.Flags())
			if invalid != nil { // all the rest can be told nevertheless
				cfg = s.defaults()
			}
			r := report{Kernel: probe.Kernel(), Overlay: probe.OverlayAt(cfg.Root), AppArmorProfile: probe.Feature{OK: true}, SELinux: cfg.Container.EnableSELinux}
			if err := openAppArmor(cfg.Container).NoDefault(); err != nil {
				r.AppArmorProfile = probe.Feature{Why: err.Error()}
			}
			r.configuration(cfg.State, invalid)
			var err error
			if r.Root, err = probe.At(cfg.Root); err != nil {
				return fmt.Errorf("look at the root directory: %w", err)
			}
			if r.State, err = probe.At(cfg.State); err != nil {
				return fmt.Errorf("look at the state directory: %w", err)
			}
			r.node(cmd.Context(), cfg)
			r.judge()
			if output == "json" {
				err = writeJSON(cmd, r)
			} else {
				err = r.print(cmd.OutOrStdout())
			}
			if err == nil && !r.OK {
				err = errors.New("this host lacks something that Berth cannot do without")
			}
			return err
		},
	}
	s.register(cmd.Flags())
	outputFlag(cmd, &output, "table")
	return cmd
}

// print writes the table: one line per check, and below it what follows from
// what is missing.
func (r *report) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range r.Checks {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", c.Name, c.State, c.Found)
		if c.State != stateOK && c.Consequence != "" {
			for _, line := range wrap(c.Consequence, 76) {
				fmt.Fprintf(tw, "\t\t  %s\n", line)
			}
		}
	}
	return tw.Flush()
}

// wrap breaks text at spaces.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
