package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// counter counts to its log without an end, some thousand lines a second.
const counter = "i=0; while :; do echo $i; i=$((i+1)); done"

// counted fails unless the log holds the numbers from 0 on, each once and in
// order, and returns how many.
func (n *node) counted(path string) int {
	n.t.Helper()
	log := n.logged(path, "stdout")
	if log == "" {
		return 0 // it has only begun
	}
	lines := strings.Split(strings.TrimSuffix(log, "\n"), "\n")
	for i, line := range lines {
		if line != fmt.Sprint(i) {
			n.t.Fatalf("line %d of %d is %q, after %q", i, len(lines), line, lines[max(0, i-1)])
		}
	}
	return len(lines)
}

func (n *node) stop(id string, timeout int64) {
	n.t.Helper()
	if _, err := n.rt.StopContainer(n.ctx(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: timeout}); err != nil {
		n.t.Fatal(err)
	}
}

func TestDaemonKilled(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("survivor"))
	id := n.run(pod, containerConfig("counter", counter))
	quits := n.run(pod, containerConfig("quits", "sleep 0.7; exit 5"))
	created, err := n.create(pod, containerConfig("created", "exit 6"))
	if err != nil {
		t.Fatal(err)
	}
	before, podBefore := n.status(id), n.podStatus(pod)
	for range 3 {
		n.restart()
		if st := n.status(id); st.State != before.State || st.StartedAt != before.StartedAt || st.CreatedAt != before.CreatedAt {
			t.Fatalf("after a restart: %v, before: %v", st, before)
		}
		if st := n.podStatus(pod); st.State != podBefore.State || st.Network.Ip != podBefore.Network.Ip {
			t.Fatalf("after a restart: %v, before: %v", st, podBefore)
		}
		if out, code := n.exec(id, "echo still here"); out != "still here\n" || code != 0 {
			t.Fatalf("exec after a restart: %q %d", out, code)
		}
	}
	// One that ended, perhaps while nobody was there.
	if st := n.wait(quits); st.ExitCode != 5 || st.Reason != "Error" {
		t.Errorf("ended meanwhile: %v", st)
	}
	// One that was created before is started after.
	if _, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: created}); err != nil {
		t.Fatal(err)
	}
	if st := n.wait(created); st.ExitCode != 6 {
		t.Errorf("created before, started after: %v", st)
	}
	n.stop(id, 0)
	if lines := n.counted(before.LogPath); lines < 100 {
		t.Errorf("only %d lines", lines)
	}
}

func TestExitWhileDaemonIsDead(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("quiet"))
	id := n.run(pod, containerConfig("c", "sleep 0.3; echo last words; exit 9"))
	n.kill()
	time.Sleep(time.Second)
	n.start()
	st := n.status(id)
	if st.State != runtimeapi.ContainerState_CONTAINER_EXITED || st.ExitCode != 9 || st.FinishedAt == 0 {
		t.Errorf("status: %v", st)
	}
	if got := n.logged(st.LogPath, "stdout"); got != "last words\n" {
		t.Errorf("log: %q", got)
	}
}

func TestMonitorKilled(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("monitored"))
	id := n.run(pod, containerConfig("counter", counter))
	quits := n.run(pod, containerConfig("quits", "sleep 1; echo bye; exit 5"))
	for range 5 {
		n.killMonitor()
		if out, code := n.exec(id, "echo still here"); out != "still here\n" || code != 0 {
			t.Fatalf("exec after the monitor died: %q %d", out, code)
		}
	}
	st := n.wait(quits)
	if st.ExitCode != 5 {
		t.Errorf("exit code of a container that changed its monitor: %v", st)
	}
	if got := n.logged(st.LogPath, "stdout"); got != "bye\n" {
		t.Errorf("log: %q", got)
	}
	n.stop(id, 0)
	if lines := n.counted(n.status(id).LogPath); lines < 100 {
		t.Errorf("only %d lines", lines)
	}
}

func TestBothKilled(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("alone"))
	id := n.run(pod, containerConfig("counter", counter))
	old := n.monitor()
	n.kill()
	killPid(t, old)
	time.Sleep(200 * time.Millisecond) // the pipe is full now, and nobody reads
	n.start()
	if n.monitor() == old {
		t.Fatal("the monitor lives")
	}
	before := n.counted(n.status(id).LogPath)
	eventually(t, 10*time.Second, "the log grows", func() error {
		if n.counted(n.status(id).LogPath) <= before {
			return fmt.Errorf("%d lines", before)
		}
		return nil
	})
	n.stop(id, 0)
	n.counted(n.status(id).LogPath)
}

// Fifty pods, eight at a time, the daemon killed in the middle: what was
// returned is true, what was started runs, and nothing leaks.
func TestFiftyPodsAndAKill(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	var mu sync.Mutex
	var done []tried
	work := make(chan int)
	killed := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range work {
				r := n.tryPod(i)
				mu.Lock()
				if done = append(done, r); len(done) == 20 {
					close(killed)
				}
				mu.Unlock()
			}
		})
	}
	go func() {
		for i := range 50 {
			work <- i
		}
		close(work)
	}()
	<-killed
	n.kill()
	wg.Wait()
	n.start()
	started := 0
	for _, r := range done {
		if r.pod != "" {
			if st := n.podStatus(r.pod); st.State != runtimeapi.PodSandboxState_SANDBOX_READY {
				t.Errorf("a pod that was returned is %s", st.State)
			}
		}
		if r.container != "" {
			if st := n.status(r.container); r.started && st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
				t.Errorf("a container that was started is %v", st)
			}
		}
		if r.started {
			started++
			if out, _ := n.exec(r.container, "echo alive"); out != "alive\n" {
				t.Errorf("exec: %q", out)
			}
		}
	}
	if started < 10 {
		t.Errorf("only %d of 50 pods were started before the kill", started)
	}
}

// tried is how far a pod got.
type tried struct {
	pod, container string
	started        bool
}

// tryPod brings up a pod with a container, as far as the daemon lives.
func (n *node) tryPod(i int) (r tried) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	cfg := n.podConfig(fmt.Sprintf("burst-%d", i))
	p, err := n.rt.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg})
	if err != nil {
		n.onlyUnavailable(err)
		return r
	}
	r.pod = p.PodSandboxId
	c, err := n.rt.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: r.pod, Config: containerConfig("c", "sleep 1000"), SandboxConfig: cfg})
	if err != nil {
		n.onlyUnavailable(err)
		return r
	}
	r.container = c.ContainerId
	if _, err := n.rt.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: r.container}); err != nil {
		n.onlyUnavailable(err)
		return r
	}
	r.started = true
	return r
}

// onlyUnavailable: the daemon is dead, or was killed with the request.
func (n *node) onlyUnavailable(err error) {
	if status.Code(err) != codes.Unavailable {
		n.t.Errorf("got %v, want Unavailable", err)
	}
}

// Requests that come at the first possible moment are not taken for what an
// earlier daemon left half made.
func TestRequestsAtTheGate(t *testing.T) {
	t.Parallel()
	n := prepareNode(t, faults("reconcile.clean=sleep(200ms);pod.run.files=sleep(400ms);container.create.root=sleep(400ms)"))
	n.start()
	n.pull(busybox)
	home := n.pod(n.podConfig("home", hostNetwork))
	for round := range 3 {
		n.kill()
		began := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 6 {
			name := fmt.Sprintf("r%d-%d", round, i)
			wg.Go(func() {
				<-began
				for {
					var err error
					if i%2 == 0 {
						_, err = n.runPod(context.Background(), n.podConfig(name))
					} else {
						_, err = n.create(home, containerConfig(name, "true"))
					}
					if err == nil {
						return
					}
					if status.Code(err) != codes.Unavailable {
						t.Errorf("%s: %v", name, err)
						return
					}
				}
			})
		}
		n.launch()
		close(began)
		wg.Wait()
		n.started[n.monitor()] = true
	}
	time.Sleep(100 * time.Millisecond)
	if pods := n.podNames(&runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{}}); len(pods) != 1+3*3 {
		t.Errorf("ready pods: %v", pods)
	}
	if containers := n.containerNames(nil); len(containers) != 3*3 {
		t.Errorf("containers: %v", containers)
	}
}
