package operator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func statsCommand() *cobra.Command {
	var o output
	var f statsFilter
	var interval time.Duration
	cmd := asks(&cobra.Command{
		Use:   "stats [CONTAINER...]",
		Short: "Show what running containers use",
		Long: `Show what running containers use. The CPU column is the share of one CPU over
--interval, for which the command waits between two looks. "berth top" does the
same again and again.`,
		ValidArgsFunction: anyNumber(containers),
	}, func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
		ids, err := f.ids(ctx, c, args)
		if err != nil {
			return err
		}
		first, err := c.stats(ctx, f.pod, ids)
		if err != nil {
			return err
		}
		if interval > 0 && len(first) > 0 {
			select {
			case <-time.After(interval):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		second, err := c.stats(ctx, f.pod, ids)
		if err != nil {
			return err
		}
		if o.machine() {
			return o.write(cmd.OutOrStdout(), &runtimeapi.ListContainerStatsResponse{Stats: second})
		}
		pods, err := c.podNames(ctx)
		if err != nil {
			return err
		}
		owners, err := c.owners(ctx)
		if err != nil {
			return err
		}
		before := map[string]*runtimeapi.ContainerStats{}
		for _, s := range first {
			before[s.GetAttributes().GetId()] = s
		}
		var lines [][]string
		for _, s := range second {
			a := s.GetAttributes()
			p := pods[owners[a.GetId()]]
			lines = append(lines, []string{
				o.id(a.GetId()), a.GetMetadata().GetName(), percent(cpuShare(before[a.GetId()].GetCpu(), s.GetCpu())),
				amount(s.GetMemory().GetWorkingSetBytes()), amount(s.GetSwap().GetSwapUsageBytes()), amount(s.GetWritableLayer().GetUsedBytes()),
				count(s.GetWritableLayer().GetInodesUsed()), p.GetNamespace(), p.GetName(),
			})
		}
		return table(cmd.OutOrStdout(), []string{"CONTAINER", "NAME", "CPU %", "MEMORY", "SWAP", "DISK", "INODES", "NAMESPACE", "POD"}, lines)
	})
	o.register(cmd.Flags(), false)
	cmd.Flags().StringVarP(&f.podWord, "pod", "p", "", "only those of the `POD`: its id, name or namespace/name")
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "the `TIME` over which CPU use is measured")
	complete(cmd, "pod", pods)
	return cmd
}

// statsFilter chooses containers.
type statsFilter struct {
	podWord string
	pod     string // its id
}

// ids are those of the containers that were named, nil for all.
func (f *statsFilter) ids(ctx context.Context, c *client, words []string) ([]string, error) {
	if f.podWord != "" {
		p, err := c.pod(ctx, f.podWord)
		if err != nil {
			return nil, err
		}
		f.pod = p.Id
	}
	var ids []string
	for _, w := range words {
		x, err := c.container(ctx, w)
		if err != nil {
			return nil, err
		}
		if x.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
			return nil, fmt.Errorf("container %s does not run: it is %s", w, containerState(x.State))
		}
		ids = append(ids, x.Id)
	}
	return ids, nil
}

// stats are those of the running containers, by pod and name.
func (c *client) stats(ctx context.Context, pod string, ids []string) ([]*runtimeapi.ContainerStats, error) {
	r, err := c.runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{Filter: &runtimeapi.ContainerStatsFilter{PodSandboxId: pod}})
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(r.Stats, func(s *runtimeapi.ContainerStats) bool {
		return ids != nil && !slices.Contains(ids, s.GetAttributes().GetId())
	})
	slices.SortFunc(all, func(a, b *runtimeapi.ContainerStats) int {
		x, y := a.GetAttributes(), b.GetAttributes()
		return cmp.Or(strings.Compare(x.GetMetadata().GetName(), y.GetMetadata().GetName()), strings.Compare(x.GetId(), y.GetId()))
	})
	return all, nil
}

// owners are the pods of all containers.
func (c *client) owners(ctx context.Context) (map[string]string, error) {
	all, err := c.containerList(ctx, nil)
	owners := make(map[string]string, len(all))
	for _, x := range all {
		owners[x.Id] = x.PodSandboxId
	}
	return owners, err
}

// cpuShare is the use of CPU between two looks, 1 for a whole CPU; negative when
// it is not known.
func cpuShare(before, now *runtimeapi.CpuUsage) float64 {
	t := now.GetTimestamp() - before.GetTimestamp()
	if before.GetUsageCoreNanoSeconds() == nil || now.GetUsageCoreNanoSeconds() == nil || t <= 0 {
		if n := now.GetUsageNanoCores(); n != nil {
			return float64(n.Value) / 1e9
		}
		return -1
	}
	was, is := before.GetUsageCoreNanoSeconds().GetValue(), now.GetUsageCoreNanoSeconds().GetValue()
	if is < was {
		return -1 // another container's now
	}
	return float64(is-was) / float64(t)
}

func percent(share float64) string {
	if share < 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", 100*share)
}

func amount(v *runtimeapi.UInt64Value) string {
	if v == nil {
		return ""
	}
	return size(v.Value)
}

func count(v *runtimeapi.UInt64Value) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v.Value)
}
