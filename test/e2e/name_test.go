package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (n *node) runPod(ctx context.Context, cfg *runtimeapi.PodSandboxConfig) (string, error) {
	r, err := n.rt.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg})
	return r.GetPodSandboxId(), err
}

// The same pod in the same attempt is one pod, however often it is asked for.
func TestPodNames(t *testing.T) {
	n := newNode(t)
	first := n.pod(n.podConfig("same"))
	if again := n.pod(n.podConfig("same")); again != first {
		t.Errorf("asked twice: %s and %s", first, again)
	}
	for name, change := range map[string]func(*runtimeapi.PodSandboxConfig){
		"another hostname": func(c *runtimeapi.PodSandboxConfig) { c.Hostname = "else" },
		"another label":    func(c *runtimeapi.PodSandboxConfig) { c.Labels["a"] = "b" },
		"another sysctl":   func(c *runtimeapi.PodSandboxConfig) { c.Linux.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"} },
		"host's IPC instead": func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.SecurityContext.NamespaceOptions.Ipc = runtimeapi.NamespaceMode_NODE
		},
	} {
		_, err := n.runPod(n.ctx(), n.podConfig("same", change))
		wantCode(t, name, err, codes.AlreadyExists, "same", first)
	}
	attempt := func(a uint32) func(*runtimeapi.PodSandboxConfig) {
		return func(c *runtimeapi.PodSandboxConfig) { c.Metadata.Attempt = a }
	}
	if next := n.pod(n.podConfig("same", attempt(1))); next == first {
		t.Error("the next attempt got the id of the first")
	}
	n.stopPod(first)
	_, err := n.runPod(n.ctx(), n.podConfig("same"))
	wantCode(t, "of a stopped pod", err, codes.AlreadyExists, "notready")
	n.removePod(first)
	if again := n.pod(n.podConfig("same")); again == first {
		t.Error("an id was used twice")
	}
}

func TestConcurrentPodsOfOneName(t *testing.T) {
	n := newNode(t, faults("pod.run.network=1*sleep(400ms)"))
	// One caller goes away at once; the pod is made for those that stay, and
	// for who comes later.
	ctx, cancel := context.WithTimeout(n.ctx(), 50*time.Millisecond)
	defer cancel()
	_, err := n.runPod(ctx, n.podConfig("joined"))
	wantCode(t, "impatient", err, codes.DeadlineExceeded)
	if got := n.podNames(nil); len(got) != 0 {
		t.Errorf("listed before it is there: %v", got)
	}
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			var err error
			if ids[i], err = n.runPod(n.ctx(), n.podConfig("joined")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("ids: %v", ids)
		}
	}
	if got := n.podNames(nil); len(got) != 1 {
		t.Errorf("pods: %v", got)
	}
}

func TestContainerNames(t *testing.T) {
	n := newNode(t, faults("container.create.root=1*sleep(400ms)"))
	n.pull(busybox)
	pod, other := n.pod(n.podConfig("pod", hostNetwork)), n.pod(n.podConfig("other", hostNetwork))
	cfg := func() *runtimeapi.ContainerConfig { return containerConfig("c", "sleep 1000") }
	ctx, cancel := context.WithTimeout(n.ctx(), 50*time.Millisecond)
	defer cancel()
	_, err := n.rt.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: cfg(), SandboxConfig: n.podConfig("pod")})
	wantCode(t, "impatient", err, codes.DeadlineExceeded)
	var mu sync.Mutex
	ids := map[string]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			id, err := n.create(pod, cfg())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids[id]++
		})
	}
	wg.Wait()
	if len(ids) != 1 {
		t.Fatalf("ids: %v", ids)
	}
	id, err := n.create(pod, cfg())
	if err != nil || ids[id] == 0 {
		t.Errorf("once more: %s, %v", id, err)
	}
	_, err = n.create(pod, containerConfig("c", "something else"))
	wantCode(t, "another configuration", err, codes.AlreadyExists, id)
	if same, err := n.create(other, cfg()); err != nil || same == id {
		t.Errorf("in another pod: %s, %v", same, err)
	}
	if _, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	_, err = n.create(pod, cfg())
	wantCode(t, "of a running container", err, codes.AlreadyExists, "running")
	next := cfg()
	next.Metadata.Attempt = 1
	if again, err := n.create(pod, next); err != nil || again == id {
		t.Errorf("next attempt: %s, %v", again, err)
	}
	if _, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	if again, err := n.create(pod, cfg()); err != nil || again == id {
		t.Errorf("after the removal: %s, %v", again, err)
	}
}

// Starts, stops and removals of one container by many callers at once.
func TestManyCallersAtOnce(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("contested"))
	for round := range 3 {
		id, err := n.create(pod, containerConfig(fmt.Sprintf("c%d", round), "sleep 1000"))
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		started := 0
		at := func(callers int, f func() error) {
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					if err := f(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		at(8, func() error {
			_, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				started++
			} else {
				wantCode(t, "a second start", err, codes.FailedPrecondition)
			}
			return nil
		})
		if started != 1 {
			t.Errorf("started %d times", started)
		}
		at(8, func() error {
			_, err := n.rt.StopContainer(n.ctx(), &runtimeapi.StopContainerRequest{ContainerId: id})
			return err
		})
		at(8, func() error {
			_, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: id})
			return err
		})
		at(8, func() error {
			_, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: id})
			return err
		})
	}
	// And of the pod, with a container that runs.
	n.run(pod, containerConfig("last", "sleep 1000"))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = n.rt.StopPodSandbox(n.ctx(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod})
			} else {
				_, err = n.rt.RemovePodSandbox(n.ctx(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
