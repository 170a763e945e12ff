package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/config"
	"github.com/berth-cri/berth/linux"
)

// comparison is what config diff found, as -o json prints it.
type comparison struct {
	Running  *loaded         `json:"running"`
	Changes  []config.Change `json:"changes"`
	Problems []string        `json:"problems,omitempty"`
}

func configDiffCommand() *cobra.Command {
	var file, state, output string
	cmd := &cobra.Command{
		Use:   "diff",
		Short: "Show how the files differ from what the daemon runs with",
		Long: `Read the files that the running daemon reads, with the flags that it was given,
and show what differs from what it runs with, and what is wrong with them. A
daemon takes up by itself what can change while it runs, so what is left waits
for a restart, or for files that are valid.

The exit code is 1 if the files are not valid.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return unknownOutput(output)
			}
			running, err := findRunning(file, state)
			if err != nil {
				return err
			}
			c := compare(running)
			if output == "json" {
				err = writeJSON(cmd, c)
			} else {
				err = c.print(cmd.OutOrStdout())
			}
			if err == nil && len(c.Problems) > 0 {
				err = errors.New("the files are not valid; the daemon goes on with the configuration from before")
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration `FILE` that tells the state directory (default "+config.DefaultPath+", if there is one)")
	cmd.Flags().StringVar(&state, "state", "", "state `DIR` of the daemon (default what the configuration says, or /run/berth)")
	outputFlag(cmd, &output, "table")
	return cmd
}

// findRunning finds what a daemon runs with by its state directory. A file that
// is broken, or names another one than when the daemon started, is what people
// come for, so the default is tried after it.
func findRunning(file, state string) (*loaded, error) {
	dirs := []string{state}
	if state == "" {
		dirs = []string{config.Default().State}
		if cfg, err := config.Load(file, config.Overrides{}); err == nil {
			dirs = slices.Compact([]string{cfg.State, dirs[0]})
		}
	}
	for _, dir := range dirs {
		switch l, err := readRunning(dir); {
		case err == nil:
			return l, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return nil, fmt.Errorf("no daemon runs with the state directory %s; name another by --state", dirs[0])
}

// readRunning is what the living daemon of a state directory runs with;
// fs.ErrNotExist when there is none.
func readRunning(state string) (*loaded, error) {
	var l loaded
	if err := atomicfile.ReadJSON(filepath.Join(state, loadedFile), &l); err != nil {
		return nil, fmt.Errorf("read what the daemon runs with: %w", err)
	}
	if !linux.Alive(l.Pid, l.StartTime) {
		return nil, fmt.Errorf("%s was left by a daemon that is gone: %w", loadedFile, fs.ErrNotExist)
	}
	return &l, nil
}

func compare(running *loaded) comparison {
	c := comparison{Running: running, Changes: []config.Change{}}
	file, err := running.Source.load()
	if err != nil {
		c.Problems = problems(err)
		return c
	}
	// What is right by itself may still not do: a file that it names is missing.
	c.Problems = running.Problems
	c.Changes = append(c.Changes, config.Diff(running.Settings, file.Settings())...)
	return c
}

func (c *comparison) print(w io.Writer) error {
	for _, p := range c.Problems {
		fmt.Fprintln(w, p)
	}
	if len(c.Changes) == 0 {
		if len(c.Problems) > 0 {
			return nil
		}
		_, err := fmt.Fprintln(w, "The daemon runs with what its files say.")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "KEY\tRUNNING\tFILE\tEFFECT")
	for _, d := range c.Changes {
		effect := "at the next restart"
		if d.Reload == config.Now {
			effect = "in a moment"
			if len(c.Problems) > 0 {
				effect = "when the files are valid"
			}
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", d.Key, orDash(d.Running), orDash(d.File), effect)
	}
	return tw.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
