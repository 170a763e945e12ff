package operator

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func topCommand() *cobra.Command {
	t := topView{}
	cmd := asks(&cobra.Command{
		Use:   "top",
		Short: "Watch what pods use",
		Long: `Watch what pods use, the busiest first. On a terminal the keys are: c, m and n to
sort by CPU, memory and network, q to leave. Elsewhere one look follows the other.`,
		Example: "  berth top --sort memory\n  berth top --count 1",
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, c *client, cmd *cobra.Command, _ []string) error {
		if !slices.Contains(sorts, t.sort) {
			return fmt.Errorf("--sort %q is none of %s", t.sort, strings.Join(sorts, ", "))
		}
		if t.interval <= 0 || t.count < 0 {
			return fmt.Errorf("--interval must be positive and --count not negative")
		}
		return t.run(ctx, c, cmd)
	})
	f := cmd.Flags()
	f.StringVar(&t.sort, "sort", "cpu", "`COLUMN` to sort by: cpu, memory or network")
	f.DurationVar(&t.interval, "interval", 2*time.Second, "`TIME` between two looks")
	f.IntVarP(&t.count, "count", "n", 0, "leave after `N` looks")
	complete(cmd, "sort", fixed(sorts...))
	return cmd
}

var sorts = []string{"cpu", "memory", "network"}

type topView struct {
	sort     string
	interval time.Duration
	count    int
}

// topLine is one pod.
type topLine struct {
	namespace, name string
	cpu             float64 // -1: not known
	memory          uint64
	in, out         float64 // bytes per second; -1: not known
	processes       string
	containers      int
}

func (t *topView) run(ctx context.Context, c *client, cmd *cobra.Command) error {
	w := cmd.OutOrStdout()
	keys := make(chan byte)
	height := 0
	in, isFile := cmd.InOrStdin().(*os.File)
	out, onFile := w.(*os.File)
	live := isFile && onFile && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd()))
	if live {
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("prepare the terminal: %w", err)
		}
		defer term.Restore(int(in.Fd()), before)
		fmt.Fprint(w, "\x1b[?1049h\x1b[?25l")       // another screen, no cursor
		defer fmt.Fprint(w, "\x1b[?25h\x1b[?1049l") // and back
		go readKeys(in, keys)
	}
	before, err := c.podStats(ctx)
	if err != nil {
		return err
	}
	pause := min(t.interval, time.Second) // the first look is a short one
	for looks := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case k := <-keys:
			switch k {
			case 'q', 3, 4: // ^C, ^D
				return nil
			case 'c', 'm', 'n':
				t.sort = map[byte]string{'c': "cpu", 'm': "memory", 'n': "network"}[k]
			}
			continue
		case <-time.After(pause):
		}
		pause = t.interval
		now, err := c.podStats(ctx)
		if err != nil {
			return err
		}
		if live {
			if _, height, err = term.GetSize(int(out.Fd())); err != nil {
				return fmt.Errorf("ask for the terminal's size: %w", err)
			}
		}
		if err := t.show(w, t.lines(before, now), live, height); err != nil {
			return err
		}
		before = now
		if looks++; looks == t.count {
			return nil
		}
	}
}

func readKeys(r io.Reader, keys chan<- byte) {
	b := make([]byte, 1)
	for {
		if _, err := r.Read(b); err != nil {
			return
		}
		keys <- b[0]
	}
}

func (c *client) podStats(ctx context.Context) (map[string]*runtimeapi.PodSandboxStats, error) {
	r, err := c.runtime.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{})
	all := make(map[string]*runtimeapi.PodSandboxStats, len(r.GetStats()))
	for _, s := range r.GetStats() {
		all[s.GetAttributes().GetId()] = s
	}
	return all, err
}

func (t *topView) lines(before, now map[string]*runtimeapi.PodSandboxStats) []topLine {
	var lines []topLine
	for id, s := range now {
		was := before[id].GetLinux()
		is := s.GetLinux()
		l := topLine{
			namespace: s.GetAttributes().GetMetadata().GetNamespace(), name: s.GetAttributes().GetMetadata().GetName(),
			cpu: cpuShare(was.GetCpu(), is.GetCpu()), memory: is.GetMemory().GetWorkingSetBytes().GetValue(),
			in: -1, out: -1, processes: count(is.GetProcess().GetProcessCount()), containers: len(is.GetContainers()),
		}
		if d := is.GetNetwork().GetTimestamp() - was.GetNetwork().GetTimestamp(); was.GetNetwork() != nil && is.GetNetwork() != nil && d > 0 {
			a, b := was.GetNetwork().GetDefaultInterface(), is.GetNetwork().GetDefaultInterface()
			l.in = rate(a.GetRxBytes(), b.GetRxBytes(), d)
			l.out = rate(a.GetTxBytes(), b.GetTxBytes(), d)
		}
		lines = append(lines, l)
	}
	slices.SortFunc(lines, func(a, b topLine) int {
		order := cmp.Compare(b.cpu, a.cpu)
		switch t.sort {
		case "memory":
			order = cmp.Compare(b.memory, a.memory)
		case "network":
			order = cmp.Compare(b.in+b.out, a.in+a.out)
		}
		return cmp.Or(order, strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
	})
	return lines
}

// rate is in bytes per second, over nanoseconds.
func rate(was, is *runtimeapi.UInt64Value, d int64) float64 {
	if was == nil || is == nil || is.Value < was.Value {
		return -1
	}
	return float64(is.Value-was.Value) / (float64(d) / 1e9)
}

func perSecond(r float64) string {
	if r < 0 {
		return ""
	}
	return size(uint64(r)) + "/s"
}

func (t *topView) show(w io.Writer, lines []topLine, live bool, height int) error {
	var total topLine
	rows := make([][]string, 0, len(lines))
	for _, l := range lines {
		total.cpu += max(l.cpu, 0)
		total.memory += l.memory
		total.containers += l.containers
		rows = append(rows, []string{
			percent(l.cpu), size(l.memory), perSecond(l.in), perSecond(l.out), l.processes, fmt.Sprint(l.containers), l.namespace, l.name,
		})
	}
	if live {
		rows = latest(rows, max(height-3, 1))
	}
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "%s  %d pods, %d containers, %.1f%% of a CPU, %s of memory; by %s\n\n", time.Now().Format(time.TimeOnly),
		len(lines), total.containers, 100*total.cpu, size(total.memory), t.sort)
	if err := table(&buf, []string{"CPU %", "MEMORY", "NET IN", "NET OUT", "PROCS", "CONTAINERS", "NAMESPACE", "POD"}, rows); err != nil {
		return err
	}
	text := buf.String()
	if live { // raw mode: each line ends with what stands behind it erased
		text = "\x1b[H" + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\x1b[K\r\n") + "\x1b[J"
	} else {
		text += "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}
