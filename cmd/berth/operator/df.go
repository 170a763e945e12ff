package operator

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/berth-cri/berth/cri/node"
)

func dfCommand() *cobra.Command {
	var o output
	var verbose bool
	cmd := asks(&cobra.Command{
		Use:   "df",
		Short: "Show what takes room on the disk",
		Long: `Show what images, writable layers and logs take on the disk. A layer lies there
once however many images have it: UNIQUE is what removing an image gives back,
SHARED what other images have as well.`,
		Args: cobra.NoArgs,
	}, func(ctx context.Context, c *client, cmd *cobra.Command, _ []string) error {
		d, err := node.Client{Conn: c.conn}.DiskUsage(ctx)
		if err != nil {
			return err
		}
		slices.SortFunc(d.Images, func(a, b node.ImageUsage) int { return cmp.Compare(b.Unique, a.Unique) })
		slices.SortFunc(d.Containers, func(a, b node.ContainerUsage) int { return cmp.Compare(b.Writable+b.Log, a.Writable+a.Log) })
		w := cmd.OutOrStdout()
		if o.machine() {
			return o.write(w, d)
		}
		if err := printUsage(w, d); err != nil || !verbose {
			return err
		}
		return printDetails(w, &o, d)
	})
	o.register(cmd.Flags(), false)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "list every image and container")
	return cmd
}

func printUsage(w io.Writer, d *node.DiskUsage) error {
	used := 0
	for _, i := range d.Images {
		if i.Containers > 0 {
			used++
		}
	}
	var writable, logs, stopped int64
	running := 0
	for _, c := range d.Containers {
		writable += max(c.Writable, 0)
		logs += max(c.Log, 0)
		if c.State == "running" {
			running++
		} else {
			stopped += max(c.Writable, 0)
		}
	}
	n := fmt.Sprint(len(d.Containers))
	return table(w, []string{"WHAT", "COUNT", "IN USE", "SIZE", "RECLAIMABLE"}, [][]string{
		{"Images", fmt.Sprint(len(d.Images)), fmt.Sprint(used), bytesOf(d.Layers.Size), bytesOf(d.Layers.Reclaimable)},
		{"Layers", fmt.Sprint(d.Layers.Count), fmt.Sprint(d.Layers.Count - d.Layers.Unused), bytesOf(d.Layers.Size), bytesOf(d.Layers.Reclaimable)},
		{"Writable layers", n, fmt.Sprint(running), bytesOf(writable), bytesOf(stopped)},
		{"Logs", n, fmt.Sprint(running), bytesOf(logs), ""},
	})
}

func printDetails(w io.Writer, o *output, d *node.DiskUsage) error {
	var lines [][]string
	for _, i := range d.Images {
		name := "<none>"
		if len(i.Names) > 0 {
			name = i.Names[0]
		}
		lines = append(lines, []string{name, o.id(i.ID), bytesOf(i.Size), bytesOf(i.Shared), bytesOf(i.Unique), fmt.Sprint(i.Layers), fmt.Sprint(i.Containers), yes(i.Pinned)})
	}
	fmt.Fprintln(w)
	if err := table(w, []string{"IMAGE", "IMAGE ID", "SIZE", "SHARED", "UNIQUE", "LAYERS", "CONTAINERS", "PINNED"}, lines); err != nil {
		return err
	}
	lines = nil
	for _, c := range d.Containers {
		inodes := ""
		if c.Inodes >= 0 {
			inodes = fmt.Sprint(c.Inodes)
		}
		lines = append(lines, []string{o.id(c.ID), c.Name, c.State, bytesOf(c.Writable), inodes, bytesOf(c.Log), c.Pod})
	}
	fmt.Fprintln(w)
	return table(w, []string{"CONTAINER", "NAME", "STATE", "WRITABLE", "INODES", "LOG", "POD"}, lines)
}

// bytesOf is a size that may be unknown.
func bytesOf(n int64) string {
	if n < 0 {
		return ""
	}
	return size(uint64(n))
}
