package operator

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func pruneCommand() *cobra.Command {
	var p pruning
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove images that no container uses",
		Long: `Remove images that no container uses and that have lost their tag, to a newer
image or by hand; with --all every image that no container uses. Pinned images
stay. First it says what would go, then it asks.`,
		Example: "  berth prune --all --dry-run\n  berth prune --all --yes",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().BoolVarP(&p.all, "all", "a", false, "also images that have a tag")
	cmd.Flags().BoolVarP(&p.dry, "dry-run", "n", false, "only say what would be removed")
	cmd.Flags().BoolVarP(&p.yes, "yes", "y", false, "do not ask")
	return asks(cmd, p.run)
}

type pruning struct{ all, dry, yes bool }

func (p *pruning) run(ctx context.Context, c *client, cmd *cobra.Command, _ []string) error {
	unused, err := c.unused(ctx, p.all)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if len(unused) == 0 {
		_, err := fmt.Fprintln(w, "Nothing to remove.")
		return err
	}
	var lines [][]string
	var o output
	for _, i := range unused {
		lines = append(lines, []string{label(i), o.id(i.Id), size(i.Size)})
	}
	if err := table(w, []string{"IMAGE", "IMAGE ID", "SIZE"}, lines); err != nil {
		return err
	}
	if p.dry {
		_, err := fmt.Fprintf(w, "\nWould remove %s. What they share with others stays.\n", images(len(unused)))
		return err
	}
	if !p.yes {
		ok, err := confirm(ctx, cmd, fmt.Sprintf("\nRemove %s? [y/N] ", images(len(unused))))
		if err != nil || !ok {
			return err
		}
	}
	before, err := c.imageBytes(ctx)
	if err != nil {
		return err
	}
	removed := 0
	for _, i := range unused {
		// By id: a name may mean another image by now.
		if _, err := c.images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: i.Id}}); err != nil {
			failed(cmd, fmt.Errorf("remove %s: %w", label(i), err))
			continue
		}
		removed++
	}
	after, err := c.imageBytes(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Removed %s.", images(removed))
	if after < before {
		fmt.Fprintf(w, " %s less of %s are in use.", size(before-after), size(before))
	}
	fmt.Fprintln(w)
	if removed < len(unused) {
		return fmt.Errorf("%s could not be removed", images(len(unused)-removed))
	}
	return nil
}

// unused are the images of no container, with --all those that have a tag too.
func (c *client) unused(ctx context.Context, all bool) ([]*runtimeapi.Image, error) {
	// The images first: one that comes with its container in between is not among them.
	list, err := c.imageList(ctx)
	if err != nil {
		return nil, err
	}
	containers, err := c.containerList(ctx, nil)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, x := range containers {
		used[x.ImageId], used[x.ImageRef], used[x.GetImage().GetImage()] = true, true, true
	}
	return slices.DeleteFunc(list, func(i *runtimeapi.Image) bool {
		return i.Pinned || used[i.Id] || !all && len(i.RepoTags) > 0
	}), nil
}

// imageBytes is what images take on the disk.
func (c *client) imageBytes(ctx context.Context) (n uint64, err error) {
	r, err := c.images.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	for _, f := range r.GetImageFilesystems() {
		n += f.GetUsedBytes().GetValue()
	}
	return n, err
}

func images(n int) string {
	if n == 1 {
		return "1 image"
	}
	return fmt.Sprintf("%d images", n)
}
