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

func psCommand() *cobra.Command {
	var o output
	var f containerFilter
	cmd := &cobra.Command{
		Use:     "ps",
		Short:   "List containers",
		Long:    "List containers: those that run, or with --all those that have ended as well.",
		Example: "  berth ps -a\n  berth ps --pod default/web -o json",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "also those that do not run")
	asks(cmd, func(ctx context.Context, c *client, cmd *cobra.Command, _ []string) error {
		all, err := f.list(ctx, c)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		switch {
		case o.machine():
			return o.write(w, &runtimeapi.ListContainersResponse{Containers: all})
		case o.quiet:
			for _, x := range all {
				fmt.Fprintln(w, x.Id)
			}
			return nil
		}
		pods, err := c.podNames(ctx)
		if err != nil {
			return err
		}
		images, err := c.imageNames(ctx)
		if err != nil {
			return err
		}
		var lines [][]string
		for _, x := range all {
			p := pods[x.PodSandboxId]
			lines = append(lines, []string{
				o.id(x.Id), cmp.Or(images[x.ImageId], x.GetImage().GetUserSpecifiedImage(), o.id(x.ImageId)), ago(x.CreatedAt), containerState(x.State),
				x.GetMetadata().GetName(), fmt.Sprint(x.GetMetadata().GetAttempt()), o.id(x.PodSandboxId), p.GetNamespace(), p.GetName(),
			})
		}
		return table(w, []string{"CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD ID", "NAMESPACE", "POD"}, lines)
	})
	o.register(cmd.Flags(), true)
	f.register(cmd)
	return cmd
}

// containerFilter is the flags that choose containers.
type containerFilter struct {
	all                         bool
	id, name, pod, state, image string
	labels                      []string
	last                        int
}

func (f *containerFilter) register(cmd *cobra.Command) {
	s := cmd.Flags()
	s.StringVar(&f.id, "id", "", "only the container whose `ID` begins so")
	s.StringVar(&f.name, "name", "", "only containers of this `NAME`")
	s.StringVarP(&f.pod, "pod", "p", "", "only those of the `POD`: its id, name or namespace/name")
	s.StringVarP(&f.state, "state", "s", "", "only those in this `STATE`: created, running, exited or unknown")
	s.StringVar(&f.image, "image", "", "only those of this `IMAGE`, by name or id")
	s.StringArrayVarP(&f.labels, "label", "l", nil, "only those with the label `KEY=VALUE`; may be repeated")
	s.IntVarP(&f.last, "last", "n", 0, "only the `N` latest, running or not")
	complete(cmd, "state", fixed("created", "running", "exited", "unknown"))
	complete(cmd, "pod", pods)
	complete(cmd, "image", imageNames)
}

func (f *containerFilter) list(ctx context.Context, c *client) ([]*runtimeapi.Container, error) {
	filter := &runtimeapi.ContainerFilter{Id: f.id}
	var err error
	if filter.LabelSelector, err = labels(f.labels); err != nil {
		return nil, err
	}
	if f.pod != "" {
		p, err := c.pod(ctx, f.pod)
		if err != nil {
			return nil, err
		}
		filter.PodSandboxId = p.Id
	}
	state := f.state
	if state == "" && !f.all && f.id == "" && f.last == 0 {
		state = "running"
	}
	if state != "" {
		n, ok := runtimeapi.ContainerState_value["CONTAINER_"+strings.ToUpper(state)]
		if !ok {
			return nil, fmt.Errorf("--state %q is none of created, running, exited, unknown", state)
		}
		filter.State = &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState(n)}
	}
	image := ""
	if f.image != "" {
		r, err := c.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: f.image}})
		if err != nil {
			return nil, err
		}
		if r.Image == nil {
			return nil, fmt.Errorf("no image %q", f.image)
		}
		image = r.Image.Id
	}
	all, err := c.containerList(ctx, filter)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(x *runtimeapi.Container) bool {
		return f.name != "" && x.GetMetadata().GetName() != f.name || image != "" && x.ImageId != image
	})
	slices.SortStableFunc(all, func(a, b *runtimeapi.Container) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
	return latest(all, f.last), nil
}

func containerState(s runtimeapi.ContainerState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "CONTAINER_"))
}

// podNames are the metadata of all pods by id.
func (c *client) podNames(ctx context.Context) (map[string]*runtimeapi.PodSandboxMetadata, error) {
	all, err := c.podList(ctx, nil)
	names := make(map[string]*runtimeapi.PodSandboxMetadata, len(all))
	for _, p := range all {
		names[p.Id] = p.GetMetadata()
	}
	return names, err
}

// imageNames are the first tags of all images by id.
func (c *client) imageNames(ctx context.Context) (map[string]string, error) {
	all, err := c.imageList(ctx)
	names := make(map[string]string, len(all))
	for _, i := range all {
		if len(i.RepoTags) > 0 {
			names[i.Id] = i.RepoTags[0]
		}
	}
	return names, err
}
