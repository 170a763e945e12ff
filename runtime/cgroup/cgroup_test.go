package cgroup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestLifeOfACgroup(t *testing.T) {
	every(t, func(t *testing.T, m *Manager) {
		c := create(t, m, "one", nil)
		cmd, _ := process(t, "sleep")
		join(t, c, cmd.Process.Pid)

		for i := range m.trees {
			b, err := os.ReadFile(c.dir(i) + "/cgroup.procs")
			if err != nil || strings.TrimSpace(string(b)) == "" {
				t.Errorf("%s: process is not in: %q %v", c.dir(i), b, err)
			}
		}
		if pids, err := c.Pids(); err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
			t.Errorf("pids %v %v, want %d", pids, err, cmd.Process.Pid)
		}
		if some, err := c.Populated(); err != nil || !some {
			t.Errorf("populated: %v %v", some, err)
		}
		if _, err := m.Create(context.Background(), c.Path(), nil); !errdefs.IsAlreadyExists(err) {
			t.Errorf("second create of a living cgroup: %v", err)
		}
		if pids, _ := c.Pids(); len(pids) != 1 {
			t.Errorf("the refused create changed the cgroup: %v", pids)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
		defer cancel()
		if err := c.WaitEmpty(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait for a living process: %v", err)
		}
		if err := c.Remove(context.Background()); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("removed with a process in it: %v", err)
		}

		if err := c.Kill(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); !killed(err) {
			t.Errorf("process ended with %v", err)
		}
		if err := c.WaitEmpty(context.Background()); err != nil {
			t.Error(err)
		}
		for range 2 { // again is nothing
			if err := c.Remove(context.Background()); err != nil {
				t.Error(err)
			}
		}
		if some, err := c.Populated(); err != nil || some {
			t.Errorf("a removed cgroup: %v %v", some, err)
		}
		if err := c.WaitEmpty(context.Background()); err != nil {
			t.Error(err)
		}
		if err := c.Kill(context.Background()); err != nil {
			t.Error(err)
		}
		if pids, err := c.Pids(); err != nil || pids != nil {
			t.Errorf("a removed cgroup: %v %v", pids, err)
		}
	})
}

func killed(err error) bool {
	var exit interface{ Sys() any }
	if !errors.As(err, &exit) {
		return false
	}
	st, ok := exit.Sys().(syscall.WaitStatus)
	return ok && st.Signaled() && st.Signal() == unix.SIGKILL
}

func TestExecHasItsOwnChild(t *testing.T) {
	every(t, func(t *testing.T, m *Manager) {
		c := create(t, m, "one", nil)
		main, _ := process(t, "sleep")
		join(t, c, main.Process.Pid)
		child, err := c.Child("exec-1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Child("exec-1"); !errdefs.IsAlreadyExists(err) {
			t.Errorf("same name twice: %v", err)
		}
		if _, err := child.Child("x"); !errdefs.IsInvalidArgument(err) {
			t.Errorf("child of a child: %v", err)
		}
		probe, _ := process(t, "sleep")
		join(t, child, probe.Process.Pid)

		pids, err := c.Pids()
		slices.Sort(pids)
		want := []int{main.Process.Pid, probe.Process.Pid}
		slices.Sort(want)
		if err != nil || !slices.Equal(pids, want) {
			t.Errorf("container has %v %v, want %v", pids, err, want)
		}
		if pids, err := child.Pids(); err != nil || !slices.Equal(pids, []int{probe.Process.Pid}) {
			t.Errorf("exec has %v %v", pids, err)
		}
		if err := child.Kill(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := probe.Wait(); !killed(err) {
			t.Errorf("exec ended with %v", err)
		}
		if err := child.Remove(context.Background()); err != nil {
			t.Error(err)
		}
		if pids, err := c.Pids(); err != nil || !slices.Equal(pids, []int{main.Process.Pid}) {
			t.Errorf("the container lost more than its exec: %v %v", pids, err)
		}
		if main.ProcessState != nil {
			t.Error("the container was killed with its exec")
		}
		// A forgotten child goes with its container.
		if _, err := c.Child("exec-2"); err != nil {
			t.Error(err)
		}
		if err := c.Kill(context.Background()); err != nil {
			t.Error(err)
		}
		main.Wait()
		if err := c.Remove(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := c.Child("exec-3"); !errdefs.IsNotFound(err) {
			t.Errorf("exec in a removed container: %v", err)
		}
	})
}

func TestKillWinsAgainstAForkBomb(t *testing.T) {
	every(t, func(t *testing.T, m *Manager) {
		const limit = 120 // threads; a bound for the test host too
		var res *specs.LinuxResources
		if _, ok := m.place["pids"]; ok {
			res = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(limit))}}
		} else {
			// Here the tracking cgroup2 is bare: limit in v1's tree.
			h := host(t)
			bound := create(t, h, "bound", &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(limit))}})
			bomb(t, m, bound, nil)
			return
		}
		bomb(t, m, nil, res)
	})
}

func bomb(t *testing.T, m *Manager, bound *Cgroup, res *specs.LinuxResources) {
	c := create(t, m, "bomb", res)
	cmd, release := process(t, "fork")
	if bound != nil {
		join(t, bound, cmd.Process.Pid)
	}
	join(t, c, cmd.Process.Pid)
	release()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if pids, err := c.Pids(); err != nil {
			t.Fatal(err)
		} else if len(pids) > 8 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the bomb does not fork")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := c.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if err := c.Remove(ctx); err != nil {
		t.Error(err)
	}
}

func TestOOMKillIsCounted(t *testing.T) {
	m := host(t)
	if _, ok := m.place["memory"]; !ok {
		t.Skip("no memory controller here")
	}
	c := create(t, m, "greedy", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(20 << 20)), Swap: ptr(int64(20 << 20))}})
	if n, err := c.OOMKills(); err != nil || n != 0 {
		t.Fatalf("before: %d %v", n, err)
	}
	cmd, release := process(t, "eat")
	join(t, c, cmd.Process.Pid)
	release()
	if err := cmd.Wait(); !killed(err) {
		t.Fatalf("it ate and ended with %v", err)
	}
	if n, err := c.OOMKills(); err != nil || n != 1 {
		t.Errorf("after: %d %v", n, err)
	}
	if err := c.Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.OOMKills(); !errdefs.IsNotFound(err) {
		t.Errorf("after removal: %v", err)
	}
	// A new cgroup of the same name starts from 0.
	c = create(t, m, "greedy", nil)
	if n, err := c.OOMKills(); err != nil || n != 0 {
		t.Errorf("new: %d %v", n, err)
	}
}

func TestCreateReplacesWhatAFailedStartLeft(t *testing.T) {
	every(t, func(t *testing.T, m *Manager) {
		c := create(t, m, "one", nil)
		if _, err := c.Child("exec"); err != nil {
			t.Fatal(err)
		}
		before, err := os.Stat(c.tracked())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Create(context.Background(), c.Path(), nil); err != nil {
			t.Fatal(err)
		}
		after, err := os.Stat(c.tracked())
		if err != nil || os.SameFile(before, after) {
			t.Errorf("the old cgroup with its counters was kept (%v)", err)
		}
	})
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	every(t, func(t *testing.T, m *Manager) {
		p, _ := m.Path("", "pod", "bad")
		res := &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4000-4001"}, Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 30))}}
		if _, err := m.Create(context.Background(), p, res); err == nil {
			t.Fatal("processor 4000 was given")
		}
		for _, h := range m.trees {
			if _, err := os.Stat(h.dir(p)); err == nil {
				t.Errorf("left: %s", h.dir(p))
			}
		}
	})
}

func TestParentsOfAPodAreMadeAndKept(t *testing.T) {
	every(t, func(t *testing.T, m *Manager) {
		p, err := m.Path(m.parent+"/burstable/pod-1", "pod", "one")
		if err != nil {
			t.Fatal(err)
		}
		c, err := m.Create(context.Background(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		cmd, _ := process(t, "sleep")
		join(t, c, cmd.Process.Pid) // fails where a parent's cpuset is empty
		end(t, c)
		for _, h := range m.trees {
			pod := filepath.Dir(h.dir(p))
			if _, err := os.Stat(pod); err != nil {
				t.Errorf("the pod's cgroup is not ours to remove: %v", err)
			}
			os.Remove(pod)
			os.Remove(filepath.Dir(pod))
		}
	})
}

func TestPruneRemovesOnlyAnEmptyParentOfOurOwn(t *testing.T) {
	m := host(t)
	c := create(t, m, "one", nil)
	if err := m.Prune(); err == nil {
		t.Error("pruned a parent with a container")
	}
	end(t, c)
	if err := m.Prune(); err != nil {
		t.Error(err)
	}
	for _, h := range m.trees {
		if _, err := os.Stat(h.dir(m.parent)); err == nil {
			t.Errorf("still there: %s", h.dir(m.parent))
		}
	}
	c = create(t, m, "two", nil)
	end(t, c)
	other, err := Open(Options{Driver: "cgroupfs", Parent: m.parent})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Prune(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(m.trees[0].dir(m.parent)); err != nil {
		t.Error("pruned a parent that it did not make")
	}
}

func TestRootIsNobodysContainer(t *testing.T) {
	m := host(t)
	for _, p := range []string{"", "/", "..", "/../..", m.parent} {
		c := m.Load(p)
		if err := c.Kill(context.Background()); !errdefs.IsInvalidArgument(err) {
			t.Errorf("kill %q: %v", p, err)
		}
		if err := c.Remove(context.Background()); !errdefs.IsInvalidArgument(err) {
			t.Errorf("remove %q: %v", p, err)
		}
		if _, err := m.Create(context.Background(), p, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("create %q: %v", p, err)
		}
		if err := c.Set(&specs.LinuxResources{}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("set %q: %v", p, err)
		}
	}
}

func BenchmarkCreateLimitRemove(b *testing.B) {
	m := host(b)
	res := typical()
	b.ResetTimer()
	for b.Loop() {
		c, err := m.Create(context.Background(), m.parent+"/one", res)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Remove(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// typical is what the kubelet and the device defaults ask for.
func typical() *specs.LinuxResources {
	res := &specs.LinuxResources{
		CPU:            &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000))},
		Memory:         &specs.LinuxMemory{Limit: ptr(int64(128 << 20)), Swap: ptr(int64(128 << 20))},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB"}, {Pagesize: "1GB"}},
		Devices:        []specs.LinuxDeviceCgroup{{Access: "rwm"}},
	}
	for _, minor := range []int64{3, 5, 7, 8, 9} {
		res.Devices = append(res.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(minor), Access: "rwm"})
	}
	for _, minor := range []int64{0, 2} {
		res.Devices = append(res.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(5)), Minor: ptr(minor), Access: "rwm"})
	}
	res.Devices = append(res.Devices,
		specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(136)), Access: "rwm"},
		specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "m"}, specs.LinuxDeviceCgroup{Allow: true, Type: "b", Access: "m"})
	return res
}
