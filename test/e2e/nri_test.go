package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestNRILifecycle(t *testing.T) {
	n := newNode(t, patient)
	n.pull(busybox)
	var inRun, listedInRun string
	p := n.plugin("10-ear", func(p *nriPlugin) {
		p.runPod = func(pod *api.PodSandbox) error {
			for _, ns := range pod.Linux.Namespaces {
				if _, err := os.Stat(ns.Path); err != nil {
					t.Errorf("namespace in RunPodSandbox: %v", err)
				}
				inRun += ns.Type + " "
			}
			listedInRun = fmt.Sprint(n.podNames(nil))
			return nil
		}
	})
	cfg := n.podConfig("told", func(c *runtimeapi.PodSandboxConfig) {
		c.Linux.Overhead = &resources{CpuShares: 7}
		c.Linux.Resources = &resources{MemoryLimitInBytes: 1 << 30}
	})
	pod := n.pod(cfg)
	if inRun != "ipc network uts " || listedInRun != "[]" {
		t.Errorf("while it is asked: namespaces %q, listed %s", inRun, listedInRun)
	}
	got := p.pod("told")
	if got.Id != pod || got.Uid != cfg.Metadata.Uid || got.Namespace != "e2e" || got.Labels["pod"] != "told" || got.Annotations["note"] == "" ||
		len(got.Ips) != 2 || got.Linux.CgroupParent != n.cgroup || got.Linux.PodOverhead.Cpu.Shares.GetValue() != 7 || got.Linux.PodResources.Memory.Limit.GetValue() != 1<<30 {
		t.Errorf("the pod is told as %v", got)
	}

	id := n.run(pod, containerConfig("c", "sleep 1000", limits(&resources{CpuShares: 512, OomScoreAdj: 500})))
	p.told("PostStartContainer c")
	c := p.container("c")
	if c.Id != id || c.PodSandboxId != pod || c.State != api.ContainerState_CONTAINER_RUNNING || c.Pid == 0 || c.StartedAt == 0 ||
		c.Labels["container"] != "c" || !slices.Equal(c.Args, []string{"sh", "-c", "sleep 1000"}) || c.Linux.Resources.Cpu.Shares.GetValue() != 512 ||
		c.Linux.OomScoreAdj.GetValue() != 500 || filepath.Base(c.Linux.CgroupsPath) != id || c.Image.Name != busybox || c.Image.ConfigDigest != n.status(id).ImageId ||
		!strings.HasPrefix(c.Image.Digest, "sha256:") || len(c.Mounts) == 0 || len(c.Env) == 0 || c.User == nil {
		t.Errorf("the container is told as %v", c)
	}
	if err := n.update(id, &resources{CpuShares: 256}); err != nil {
		t.Fatal(err)
	}
	if got := p.container("c").Linux.Resources.Cpu.Shares.GetValue(); got != 256 {
		t.Errorf("told after the update: %d", got)
	}
	_, err := n.rt.UpdatePodSandboxResources(n.ctx(), &runtimeapi.UpdatePodSandboxResourcesRequest{
		PodSandboxId: pod, Overhead: &resources{MemoryLimitInBytes: 1}, Resources: &resources{MemoryLimitInBytes: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.pod("told").Linux.PodResources.Memory.Limit.GetValue(); got != 2 {
		t.Errorf("the pod's resources are told as %d", got)
	}
	n.stop(id, 0)
	if c := p.container("c"); c.State != api.ContainerState_CONTAINER_STOPPED || c.ExitCode != 137 || c.FinishedAt == 0 {
		t.Errorf("stopped, it is told as %v", c)
	}
	n.stop(id, 0)
	n.remove(id)
	// One that ends by itself, and one that never began.
	n.wait(n.run(pod, containerConfig("short", "exit 3")))
	p.told("StopContainer short")
	if _, err := n.create(pod, containerConfig("never", "true")); err != nil {
		t.Fatal(err)
	}
	n.stopPod(pod)
	n.stopPod(pod)
	n.removePod(pod)
	want := []string{
		"Synchronize", "RunPodSandbox told",
		"CreateContainer c", "PostCreateContainer c", "StartContainer c", "PostStartContainer c",
		"UpdateContainer c", "PostUpdateContainer c", "UpdatePodSandbox 1+2 told", "PostUpdatePodSandbox told",
		"StopContainer c", "RemoveContainer c",
		"CreateContainer short", "PostCreateContainer short", "StartContainer short", "PostStartContainer short", "StopContainer short",
		"CreateContainer never", "PostCreateContainer never",
		"StopPodSandbox told", "RemoveContainer short", "StopContainer never", "RemoveContainer never", "RemovePodSandbox told",
	}
	calls := p.all()
	// Its process may have ended before the start was told of.
	if i := slices.Index(calls, "PostStartContainer short"); i < 0 {
		want = slices.DeleteFunc(want, func(s string) bool { return s == "PostStartContainer short" })
	}
	if !slices.Equal(calls, want) && !slices.Equal(calls, swapped(want, "RemoveContainer short", "StopContainer never", "RemoveContainer never")) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(calls, "\n"), strings.Join(want, "\n"))
	}
}

// swapped moves the first of the words behind the others.
func swapped(list []string, words ...string) []string {
	i := slices.Index(list, words[0])
	out := slices.Delete(slices.Clone(list), i, i+1)
	return slices.Insert(out, slices.Index(out, words[len(words)-1])+1, words[0])
}

// A plugin connects again after a restart, learns what there is, and hears of the end.
func TestNRIAfterARestart(t *testing.T) {
	n := newNode(t, patient)
	n.pull(busybox)
	first := n.plugin("10-first", nil)
	pod := n.pod(n.podConfig("stays"))
	stopped := n.pod(n.podConfig("stopped"))
	n.stopPod(stopped)
	running := n.run(pod, containerConfig("running", "sleep 1000", limits(&resources{CpuShares: 512})))
	if err := n.update(running, &resources{CpuShares: 300}); err != nil {
		t.Fatal(err)
	}
	created, err := n.create(pod, containerConfig("created", "sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	n.wait(n.run(pod, containerConfig("exited", "true")))
	meanwhile := n.run(pod, containerConfig("meanwhile", "sleep 1000"))
	n.kill()
	<-first.closed
	killPid(t, int(first.container("meanwhile").Pid)) // ends without a daemon
	eventually(t, 10*time.Second, "the monitor notes the exit", func() error {
		_, err := os.Stat(n.path("state/containers", meanwhile, "exit.json"))
		return err
	})
	n.log = &lockedBuffer{}
	n.start()
	p := n.plugin("10-first", nil)
	if got := p.pod("stays"); got.GetId() != pod || len(got.GetIps()) != 2 || len(got.Linux.Namespaces) != 3 {
		t.Errorf("the pod: %v", got)
	}
	if got := p.pod("stopped"); got.GetId() != stopped || len(got.GetLinux().GetNamespaces()) != 0 {
		t.Errorf("the stopped pod: %v", got)
	}
	if c := p.container("running"); c.GetId() != running || c.State != api.ContainerState_CONTAINER_RUNNING || c.Pid == 0 || c.Linux.Resources.Cpu.Shares.GetValue() != 300 {
		t.Errorf("the running container: %v", c)
	}
	if c := p.container("created"); c.GetId() != created || c.State != api.ContainerState_CONTAINER_CREATED {
		t.Errorf("the created container: %v", c)
	}
	for _, name := range []string{"exited", "meanwhile"} {
		if c := p.container(name); c != nil {
			t.Errorf("a container that has ended: %v", c)
		}
	}
	if st := n.wait(meanwhile); st.ExitCode != 137 {
		t.Errorf("exit code: %d", st.ExitCode)
	}
	n.stop(running, 0)
	n.removePod(pod)
	n.removePod(stopped)
	calls := p.all()
	for call, times := range map[string]int{
		"StopContainer running": 1, "RemoveContainer running": 1, "StopContainer created": 1, "RemoveContainer created": 1,
		"StopPodSandbox stays": 1, "RemovePodSandbox stays": 1, "RemovePodSandbox stopped": 1,
		"StopPodSandbox stopped": 0, "StopContainer exited": 0, "StopContainer meanwhile": 0,
	} {
		if got := len(slices.DeleteFunc(slices.Clone(calls), func(c string) bool { return c != call })); got != times {
			t.Errorf("%s: %d times, want %d, in %q", call, got, times, calls)
		}
	}
}

// One that joins while pods come and go misses none and hears of none twice.
func TestNRIPluginsThatJoin(t *testing.T) {
	n := newNode(t, patient)
	n.pull(busybox)
	pod := n.pod(n.podConfig("busy", hostNetwork))
	names := make(chan string)
	done := make(chan []string)
	go func() {
		var made []string
		for name := range names {
			id, err := n.create(pod, containerConfig(name, "sleep 1000"))
			if err != nil {
				t.Error(err)
				continue
			}
			made = append(made, name)
			if len(made)%2 == 0 {
				n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: id})
			}
		}
		done <- made
	}()
	var joined []*nriPlugin
	began := make([]int, 0, 8)
	for i := range 8 {
		for j := range 4 {
			names <- fmt.Sprintf("c%d-%d", i, j)
		}
		began = append(began, 4*i)
		joined = append(joined, n.plugin(fmt.Sprintf("%02d-late", i), nil))
	}
	close(names)
	made := <-done
	time.Sleep(10 * time.Millisecond)
	for i, p := range joined {
		calls := p.all()
		synced := slices.Index(calls, "Synchronize")
		for k, name := range made {
			if k < began[i] {
				continue // it may have come and gone before
			}
			asked := slices.Contains(calls, "CreateContainer "+name)
			listed := !asked && p.container(name) != nil
			removed := k%2 == 1
			switch {
			case asked && slices.Index(calls, "CreateContainer "+name) < synced:
				t.Errorf("plugin %d is asked about %s before it knows of anything", i, name)
			case !asked && !listed && !removed:
				t.Errorf("plugin %d never heard of %s", i, name)
			case (asked || listed) && removed && !slices.Contains(calls, "RemoveContainer "+name):
				t.Errorf("plugin %d does not know that %s is gone: %q", i, name, calls)
			}
		}
	}
}
