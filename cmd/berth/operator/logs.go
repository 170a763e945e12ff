package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func logsCommand() *cobra.Command {
	var l logRequest
	var previous bool
	var since string
	cmd := asks(&cobra.Command{
		Use:   "logs CONTAINER",
		Short: "Print what a container wrote",
		Long: `Print what a container wrote to its standard output and standard error, each to
the same here.

The log is a file on this host (see "berth inspect"); it is read where it lies.`,
		Example:           "  berth logs -f --tail 20 web\n  berth logs --since 10m -t web\n  berth logs -p web",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: atMost(1, containers),
	}, func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
		var err error
		if l.since, err = sinceTime(since, time.Now()); err != nil {
			return err
		}
		x, err := c.container(ctx, args[0])
		if err != nil {
			return err
		}
		if previous {
			if x, err = c.previous(ctx, x); err != nil {
				return err
			}
			l.follow = false
		}
		r, err := c.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: x.Id})
		if err != nil {
			return err
		}
		if l.path = r.GetStatus().GetLogPath(); l.path == "" {
			return fmt.Errorf("container %s writes no log: its request named no log path", x.Id)
		}
		l.running = func() bool {
			r, err := c.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: x.Id})
			return err == nil && r.GetStatus().GetState() == runtimeapi.ContainerState_CONTAINER_RUNNING
		}
		return l.print(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	f := cmd.Flags()
	f.BoolVarP(&l.follow, "follow", "f", false, "go on until the container ends")
	f.IntVar(&l.tail, "tail", -1, "only the last `N` lines")
	f.StringVar(&since, "since", "", "only what is newer: a `TIME` (RFC 3339) or how long ago (10m)")
	f.BoolVarP(&l.timestamps, "timestamps", "t", false, "begin each line with its time")
	f.BoolVarP(&previous, "previous", "p", false, "of the container's attempt before this one")
	return cmd
}

// previous is the attempt before, which the kubelet keeps for a while.
func (c *client) previous(ctx context.Context, x *runtimeapi.Container) (*runtimeapi.Container, error) {
	all, err := c.containerList(ctx, &runtimeapi.ContainerFilter{PodSandboxId: x.PodSandboxId})
	if err != nil {
		return nil, err
	}
	var best *runtimeapi.Container
	for _, other := range all {
		m := other.GetMetadata()
		if m.GetName() != x.GetMetadata().GetName() || m.GetAttempt() >= x.GetMetadata().GetAttempt() {
			continue
		}
		if best == nil || m.GetAttempt() > best.GetMetadata().GetAttempt() {
			best = other
		}
	}
	if best == nil {
		return nil, fmt.Errorf("container %s (attempt %d) has no earlier attempt", x.GetMetadata().GetName(), x.GetMetadata().GetAttempt())
	}
	return best, nil
}

func sinceTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("--since %q is neither a time such as 2006-01-02T15:04:05Z nor a duration such as 10m", s)
	}
	return t, nil
}

// logRequest is what to print of a log.
type logRequest struct {
	path       string
	follow     bool
	tail       int // < 0: all
	since      time.Time
	timestamps bool
	running    func() bool
}

// print writes the log, following it over its rotations.
func (l *logRequest) print(ctx context.Context, stdout, stderr io.Writer) error {
	file, err := openLog(filepath.Clean(l.path), l.tail)
	if err != nil {
		return err
	}
	defer file.close()
	out := func(e entry) error {
		if e.at.Before(l.since) {
			return nil
		}
		w := stdout
		if e.stream == "stderr" {
			w = stderr
		}
		text := e.text
		if l.timestamps && e.first {
			text = e.at.Local().Format(time.RFC3339Nano) + " " + text
		}
		_, err := io.WriteString(w, text)
		return err
	}
	for {
		// Asked before the reading: what an ended container wrote is there then.
		running := l.follow && l.running()
		if err := file.read(out); err != nil {
			return err
		}
		if !running {
			return nil
		}
		if err := file.wait(ctx); ctx.Err() != nil {
			return nil // ^C is how one stops following
		} else if err != nil {
			return err
		}
	}
}

// entry is one line of a log, which may be a part of a longer one.
type entry struct {
	at     time.Time
	stream string
	first  bool // the beginning of a line of its stream
	text   string
}

var errNotALog = errors.New("is no CRI log")

// parse reads "TIME STREAM TAGS TEXT" (kubernetes, "CRI logging").
func parse(line string) (e entry, partial bool, err error) {
	line = strings.TrimSuffix(line, "\n")
	at, rest, ok1 := strings.Cut(line, " ")
	stream, rest, ok2 := strings.Cut(rest, " ")
	tags, text, ok3 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || !ok3 && tags == "" || stream != "stdout" && stream != "stderr" {
		return entry{}, false, errNotALog
	}
	if e.at, err = time.Parse(time.RFC3339Nano, at); err != nil {
		return entry{}, false, errNotALog
	}
	tag, _, _ := strings.Cut(tags, ":")
	if tag != "F" && tag != "P" {
		return entry{}, false, errNotALog
	}
	e.stream, e.text = stream, text
	if partial = tag == "P"; !partial {
		e.text += "\n"
	}
	return e, partial, nil
}
