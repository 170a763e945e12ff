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

func podsCommand() *cobra.Command {
	var o output
	var f podFilter
	cmd := asks(&cobra.Command{
		Use:     "pods",
		Short:   "List pods",
		Example: "  berth pods --namespace kube-system\n  berth pods -q --state notready",
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, c *client, cmd *cobra.Command, _ []string) error {
		all, err := f.list(ctx, c)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if o.machine() {
			return o.write(w, &runtimeapi.ListPodSandboxResponse{Items: all})
		}
		var lines [][]string
		for _, p := range all {
			if o.quiet {
				fmt.Fprintln(w, p.Id)
				continue
			}
			lines = append(lines, []string{
				o.id(p.Id), ago(p.CreatedAt), podState(p.State), p.GetMetadata().GetNamespace(), p.GetMetadata().GetName(),
				fmt.Sprint(p.GetMetadata().GetAttempt()), cmp.Or(p.RuntimeHandler, "(default)"),
			})
		}
		if o.quiet {
			return nil
		}
		return table(w, []string{"POD ID", "CREATED", "STATE", "NAMESPACE", "NAME", "ATTEMPT", "RUNTIME"}, lines)
	})
	o.register(cmd.Flags(), true)
	f.register(cmd)
	return cmd
}

// podFilter is the flags that choose pods.
type podFilter struct {
	id, name, namespace, state string
	labels                     []string
	last                       int
}

func (f *podFilter) register(cmd *cobra.Command) {
	s := cmd.Flags()
	s.StringVar(&f.id, "id", "", "only the pod whose `ID` begins so")
	s.StringVar(&f.name, "name", "", "only pods of this `NAME`")
	s.StringVar(&f.namespace, "namespace", "", "only pods of this `NAMESPACE`")
	s.StringVarP(&f.state, "state", "s", "", "only pods in this `STATE`: ready or notready")
	s.StringArrayVarP(&f.labels, "label", "l", nil, "only pods with the label `KEY=VALUE`; may be repeated")
	s.IntVarP(&f.last, "last", "n", 0, "only the `N` latest")
	complete(cmd, "state", fixed("ready", "notready"))
	complete(cmd, "namespace", namespaces)
}

func (f *podFilter) list(ctx context.Context, c *client) ([]*runtimeapi.PodSandbox, error) {
	filter := &runtimeapi.PodSandboxFilter{Id: f.id}
	var err error
	if filter.LabelSelector, err = labels(f.labels); err != nil {
		return nil, err
	}
	switch strings.ToLower(f.state) {
	case "":
	case "ready":
		filter.State = &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}
	case "notready":
		filter.State = &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY}
	default:
		return nil, fmt.Errorf("--state %q is neither ready nor notready", f.state)
	}
	all, err := c.podList(ctx, filter)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(p *runtimeapi.PodSandbox) bool {
		m := p.GetMetadata()
		return f.name != "" && m.GetName() != f.name || f.namespace != "" && m.GetNamespace() != f.namespace
	})
	slices.SortStableFunc(all, func(a, b *runtimeapi.PodSandbox) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
	return latest(all, f.last), nil
}

// latest are the first n, where 0 is all.
func latest[T any](all []T, n int) []T {
	if n > 0 && n < len(all) {
		return all[:n]
	}
	return all
}

func podState(s runtimeapi.PodSandboxState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "SANDBOX_"))
}

// labels parses KEY=VALUE words.
func labels(words []string) (map[string]string, error) {
	all := map[string]string{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--label %q is not KEY=VALUE", w)
		}
		all[k] = v
	}
	return all, nil
}
