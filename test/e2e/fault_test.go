package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The points at which the daemon's lifecycles can be made to fail.
var lifecyclePoints = []string{
	"pod.run.namespaces", "pod.run.reaper", "pod.run.network", "pod.run.files",
	"network.setup.recorded", "network.setup.added",
	"container.create.root", "container.create.record",
	"container.start.monitor", "container.start.record",
	"container.remove.rootfs",
	"pod.stop.network", "network.teardown.deleted",
	"pod.remove.record",
}

// life is the whole way of a pod, each step tried again as the kubelet does
// until it works.
type life struct {
	*node
	failures int
	restarts bool // the daemon dies of a failure
}

// step repeats a call until it works, and restarts the daemon where it died.
func (l *life) step(what string, call func(ctx context.Context) error) {
	l.t.Helper()
	for range 40 {
		err := call(l.ctx())
		if err == nil {
			return
		}
		l.failures++
		if l.restarts {
			if status.Code(err) != codes.Unavailable {
				l.t.Errorf("%s, the daemon was killed in it: %v", what, err)
			}
			l.cmd.Wait()
			l.env = nil // once is enough
			l.start()
		} else if !strings.Contains(err.Error(), "injected fault") {
			l.t.Errorf("%s: %v", what, err)
		}
	}
	l.t.Fatalf("%s does not work, however often it is tried", what)
}

// live takes a pod with a shared PID namespace and a host port through its life.
func (l *life) live(port int32) {
	cfg := l.podConfig("pod", podNamespaces(&runtimeapi.NamespaceOption{}), func(c *runtimeapi.PodSandboxConfig) {
		c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: port}}
	})
	var pod, id string
	l.step("RunPodSandbox", func(ctx context.Context) (err error) {
		// What could not be undone is listed, for the kubelet to take away.
		list, err := l.rt.ListPodSandbox(ctx, nil)
		for _, p := range list.GetItems() {
			if err == nil && p.State == runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
				_, err = l.rt.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.Id})
			}
		}
		if err == nil {
			pod, err = l.runPod(ctx, cfg)
		}
		return err
	})
	if st := l.podStatus(pod); st.State != runtimeapi.PodSandboxState_SANDBOX_READY || st.Network.Ip == "" {
		l.t.Errorf("pod: %v", st)
	}
	if got := l.podNames(nil); len(got) != 1 {
		l.t.Errorf("pods: %v", got)
	}
	in := inNamespaces(&runtimeapi.NamespaceOption{})
	l.step("CreateContainer", func(context.Context) (err error) {
		id, err = l.create(pod, containerConfig("c", "echo ready; sleep 1000; :", in))
		return err
	})
	// A failed start is the container's end; the kubelet makes the next attempt.
	attempt := uint32(0)
	l.step("StartContainer", func(ctx context.Context) error {
		st := l.status(id)
		if st.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			return nil // started, and the daemon died before it could say so
		}
		if st.State == runtimeapi.ContainerState_CONTAINER_EXITED {
			if st.ExitCode != 128 || st.Reason != "StartError" || st.Message == "" {
				l.t.Errorf("after a failed start: %v", st)
			}
			attempt++
			var err error
			id, err = l.create(pod, containerConfig("c", "echo ready; sleep 1000; :", in, func(c *runtimeapi.ContainerConfig) { c.Metadata.Attempt = attempt }))
			if err != nil {
				return err
			}
		}
		_, err := l.rt.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id})
		return err
	})
	if st := l.status(id); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		l.t.Errorf("container: %v", st)
	}
	if out, code := l.exec(id, "echo alive"); out != "alive\n" || code != 0 {
		l.t.Errorf("exec: %q, %d", out, code)
	}
	l.step("RemoveContainer", func(ctx context.Context) error {
		_, err := l.rt.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id})
		return err
	})
	l.step("StopPodSandbox", func(ctx context.Context) error {
		_, err := l.rt.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod})
		return err
	})
	if st := l.podStatus(pod); st.State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		l.t.Errorf("stopped pod: %v", st)
	}
	l.step("RemovePodSandbox", func(ctx context.Context) error {
		_, err := l.rt.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod})
		return err
	})
	if pods, containers := l.podNames(nil), l.containerNames(nil); len(pods)+len(containers) != 0 {
		l.t.Errorf("left: %v, %v", pods, containers)
	}
}

// Each step of a pod's life fails, one or three times in a row: what was asked
// for fails with it, the same request works later, and nothing leaks.
func TestEveryStepFails(t *testing.T) {
	for _, times := range []int{1, 3} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			var all []string
			for _, p := range lifecyclePoints {
				all = append(all, fmt.Sprintf("%s=%d*error(e2e)", p, times))
			}
			n := newNode(t, faults(strings.Join(all, ";")))
			n.pull(busybox)
			l := &life{node: n}
			for range 4 { // what is undone after one failure passes other points
				l.live(freePort(t))
				l.nothingLeft()
			}
			if l.failures == 0 {
				t.Error("no step failed")
			}
		})
	}
}

// nothingLeft looks for leaks while the node lives.
func (l *life) nothingLeft() {
	l.t.Helper()
	l.leaksOver()
}

// The daemon is killed at each step.
func TestKilledAtEveryStep(t *testing.T) {
	for _, p := range lifecyclePoints {
		t.Run(p, func(t *testing.T) {
			n := newNode(t)
			n.pull(busybox)
			n.kill()
			n.env = append(n.env, "BERTH_FAULTS="+p+"=1*kill")
			n.start()
			l := &life{node: n, restarts: true}
			l.live(freePort(t))
			if l.failures != 1 {
				t.Errorf("the daemon was killed %d times", l.failures)
			}
		})
	}
}

// The monitor is killed around a start: the container runs or has failed, and
// the daemon knows which.
func TestMonitorIsKilledInAStart(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("starts", hostNetwork))
	for i := range 12 {
		id, err := n.create(pod, containerConfig(fmt.Sprint("c", i), "echo ready; sleep 1000; :"))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
			done <- err
		}()
		time.Sleep(time.Duration(i) * 500 * time.Microsecond)
		n.killMonitor()
		err = <-done
		st := n.status(id)
		switch {
		case err == nil && st.State != runtimeapi.ContainerState_CONTAINER_RUNNING:
			t.Errorf("a start that worked: %v", st)
		case err != nil && (st.State != runtimeapi.ContainerState_CONTAINER_EXITED || st.Reason != "StartError"):
			t.Errorf("a start that failed with %v: %v", err, st)
		}
		if err == nil {
			if out, _ := n.exec(id, "echo alive"); out != "alive\n" {
				t.Errorf("exec: %q", out)
			}
		}
		n.stop(id, 0)
	}
	eventually(t, 10*time.Second, "no process of a start that failed is left", func() error {
		if left := n.processes(); len(left) != 0 { // zombies too: somebody else reaps them now
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}
