package kubelet

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// counter writes to its log for as long as it lives.
const counter = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done"

// restarts ends the programs of the node, each in the hard way, under the pods that
// are there. The kubelet must not restart a single container.
func restarts(n *node, t *testing.T) {
	before := n.running(t)
	if len(before) < 20 {
		t.Errorf("%d containers run, too few to tell anything", len(before))
	}
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"berth", func() { kill(n.berth); n.startBerth() }},
		{"the monitor", n.killMonitor},
		{"berth and the monitor", func() {
			unix.Kill(n.monitor(), unix.SIGKILL)
			kill(n.berth)
			n.startBerth()
		}},
		{"the kubelet", func() { kill(n.kubelet); n.startKubelet() }},
		{"the kubelet and berth", func() {
			kill(n.kubelet)
			kill(n.berth)
			n.startBerth()
			n.startKubelet()
		}},
		{"berth, gone for a while", func() { kill(n.berth); time.Sleep(8 * time.Second); n.startBerth() }},
	} {
		step.do()
		name := "after-" + strings.NewReplacer(" ", "-", ",", "").Replace(step.name)
		n.ready(t, pod(name, sleeps("c"))) // so the kubelet has come round
		n.wantSame(t, step.name, before)
		for _, p := range []string{"first", "userns"} {
			if out := n.exec(t, p, "main", "echo", "here"); out != "here\n" {
				t.Errorf("exec in %s after %s: %q", p, step.name, out)
			}
		}
		n.remove(t, name)
	}
	time.Sleep(12 * time.Second) // one more sync of every pod
	n.wantSame(t, "all of it", before)
	n.noGap(t, "first", "main")
}

func (n *node) killMonitor() {
	old := n.monitor()
	unix.Kill(old, unix.SIGKILL)
	eventually(n.t, 10*time.Second, "a new monitor", func() error {
		if n.monitor() == old {
			return fmt.Errorf("still %d", old)
		}
		return nil
	})
}

// running are the containers that run, by pod and name, with their identities.
func (n *node) running(t *testing.T) map[string]string {
	t.Helper()
	pods, err := n.api.pods()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, p := range pods {
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			if c.State.Running != nil && isReady(&p) == nil {
				all[strings.TrimSuffix(p.Name, suffix)+"/"+c.Name] = fmt.Sprintf("%s restarted %d times, since %s", c.ContainerID, c.RestartCount, c.State.Running.StartedAt)
			}
		}
	}
	return all
}

func (n *node) wantSame(t *testing.T, after string, before map[string]string) {
	t.Helper()
	eventually(t, 60*time.Second, "every pod is ready after the end of "+after, func() error {
		now := n.running(t)
		for _, name := range slices.Sorted(maps.Keys(before)) {
			if now[name] == "" {
				return fmt.Errorf("%s is not", name)
			}
		}
		return nil
	})
	now := n.running(t)
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if now[name] != before[name] {
			t.Errorf("after the end of %s: %s: %s; before: %s", after, name, now[name], before[name])
		}
	}
}

// noGap reads a counter's log, in all the files that it was rotated to.
func (n *node) noGap(t *testing.T, pod, container string) {
	t.Helper()
	files, _ := filepath.Glob(n.path("logs", "default_"+pod+suffix+"_*", container, "0.log*"))
	slices.Sort(files)
	if len(files) > 1 {
		files = append(files[1:], files[0]) // the one without a date is the newest
	}
	last, first := 0, 0
	for _, name := range files {
		for line := range strings.Lines(readLog(t, name)) {
			f := strings.Fields(line)
			i := atoi(f[len(f)-1])
			if last != 0 && i != last+1 {
				t.Errorf("%s: %d after %d", name, i, last)
			}
			if last = i; first == 0 {
				first = i
			}
		}
	}
	if last-first < 100 {
		t.Errorf("the log has lines %d to %d, in %v", first, last, files)
	}
}

func readLog(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = bufio.NewReader(f)
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(r); err != nil {
			t.Fatal(err)
		}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return string(b)
}
