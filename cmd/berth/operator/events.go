package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func eventsCommand() *cobra.Command {
	var o output
	var n int
	cmd := asks(&cobra.Command{
		Use:   "events",
		Short: "Print what happens to pods and containers, as it happens",
		Long: `Print what happens to pods and containers, as it happens, until ^C. With -o json
each event is a line of its own, with the statuses of that moment.`,
		Args: cobra.NoArgs,
	}, func(ctx context.Context, c *client, cmd *cobra.Command, _ []string) error {
		s, err := c.runtime.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		for seen := 0; n == 0 || seen < n; seen++ {
			e, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := printEvent(w, &o, e); err != nil {
				return err
			}
		}
		return nil
	})
	o.register(cmd.Flags(), false)
	cmd.Flags().IntVarP(&n, "count", "n", 0, "leave after `N` events")
	return cmd
}

func printEvent(w io.Writer, o *output, e *runtimeapi.ContainerEventResponse) error {
	switch o.format {
	case "json":
		b, err := line(e)
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\n", b)
		}
		return err
	case "yaml":
		if _, err := io.WriteString(w, "---\n"); err != nil {
			return err
		}
		return o.write(w, e)
	}
	m := e.GetPodSandboxStatus().GetMetadata()
	what, id, more := "pod", e.ContainerId, ""
	for _, c := range e.ContainersStatuses {
		if c.Id != e.ContainerId {
			continue
		}
		what = "container " + c.GetMetadata().GetName()
		if e.ContainerEventType == runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT {
			more = fmt.Sprintf(" exit=%d reason=%s", c.ExitCode, c.Reason)
		}
	}
	kind := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(e.ContainerEventType.String(), "CONTAINER_"), "_EVENT"))
	_, err := fmt.Fprintf(w, "%s %-7s %s %s in %s/%s%s\n", time.Unix(0, e.CreatedAt).Format(time.RFC3339Nano), kind, o.id(id), what, m.GetNamespace(), m.GetName(), more)
	return err
}
