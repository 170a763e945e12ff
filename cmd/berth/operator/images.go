package operator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func imagesCommand() *cobra.Command {
	var o output
	var digests, pinned bool
	cmd := asks(&cobra.Command{
		Use:     "images [NAME]",
		Aliases: []string{"image"},
		Short:   "List images",
		Long: `List images. The size is that of the unpacked layers; what images share is
counted for each of them (see "berth df").

NAME leaves those that have a name which begins so.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: atMost(1, imageNames),
	}, func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
		all, err := c.imageList(ctx)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(i *runtimeapi.Image) bool {
			return pinned && !i.Pinned || len(args) > 0 && !named(i, args[0])
		})
		slices.SortFunc(all, func(a, b *runtimeapi.Image) int {
			return cmp.Or(strings.Compare(label(a), label(b)), strings.Compare(a.Id, b.Id))
		})
		w := cmd.OutOrStdout()
		switch {
		case o.machine():
			return o.write(w, &runtimeapi.ListImagesResponse{Images: all})
		case o.quiet:
			for _, i := range all {
				fmt.Fprintln(w, i.Id)
			}
			return nil
		}
		title := []string{"IMAGE", "TAG", "IMAGE ID", "SIZE", "PINNED"}
		if digests {
			title = slices.Insert(title, 2, "DIGEST")
		}
		var lines [][]string
		for _, i := range all {
			for _, name := range names(i) {
				cells := []string{name.repository, name.tag, o.id(i.Id), size(i.Size), yes(i.Pinned)}
				if digests {
					d := name.digest
					if !o.noTrunc {
						d = o.id(d)
					}
					cells = slices.Insert(cells, 2, d)
				}
				lines = append(lines, cells)
			}
		}
		return table(w, title, lines)
	})
	o.register(cmd.Flags(), true)
	cmd.Flags().BoolVar(&digests, "digests", false, "show digests")
	cmd.Flags().BoolVar(&pinned, "pinned", false, "only those that the configuration pins")
	return cmd
}

// name is one line of an image in the table.
type name struct{ repository, tag, digest string }

// names are the lines of an image: one for each tag, or one for an image without.
func names(i *runtimeapi.Image) []name {
	digestOf := func(repository string) string {
		for _, d := range i.RepoDigests {
			if rest, ok := strings.CutPrefix(d, repository+"@"); ok {
				return rest
			}
		}
		return ""
	}
	var all []name
	for _, t := range i.RepoTags {
		at := strings.LastIndexByte(t, ':')
		if at < 0 {
			at = len(t)
		}
		all = append(all, name{t[:at], strings.TrimPrefix(t[at:], ":"), digestOf(t[:at])})
	}
	if len(all) == 0 {
		n := name{repository: "<none>", tag: "<none>"}
		if len(i.RepoDigests) > 0 {
			n.repository, n.digest, _ = strings.Cut(i.RepoDigests[0], "@")
		}
		all = append(all, n)
	}
	return all
}

// label is what an image is sorted and called by.
func label(i *runtimeapi.Image) string {
	for _, names := range [][]string{i.RepoTags, i.RepoDigests} {
		if len(names) > 0 {
			return names[0]
		}
	}
	return i.Id
}

func named(i *runtimeapi.Image, prefix string) bool {
	all := slices.Concat(i.RepoTags, i.RepoDigests, []string{i.Id, strings.TrimPrefix(i.Id, "sha256:")})
	return slices.ContainsFunc(all, func(n string) bool {
		return strings.HasPrefix(n, prefix) || strings.HasPrefix(strings.TrimPrefix(n, "docker.io/library/"), prefix) || strings.HasPrefix(strings.TrimPrefix(n, "docker.io/"), prefix)
	})
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}
