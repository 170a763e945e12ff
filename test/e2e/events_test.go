package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ear listens to a node's events and keeps them.
type ear struct {
	n    *node
	end  context.CancelFunc
	done chan error // the error that ended the stream

	mu  sync.Mutex
	all []*runtimeapi.ContainerEventResponse // guarded by mu
}

// listen begins to listen; on its return no event is missed.
func (n *node) listen() *ear {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n.t.Cleanup(cancel)
	stream, err := n.rt.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{}, grpc.WaitForReady(true))
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		n.t.Fatal(err)
	}
	e := &ear{n: n, end: cancel, done: make(chan error, 1)}
	go func() {
		for {
			one, err := stream.Recv()
			if err != nil {
				e.done <- err
				return
			}
			e.mu.Lock()
			e.all = append(e.all, one)
			e.mu.Unlock()
		}
	}()
	return e
}

func (e *ear) heard() []*runtimeapi.ContainerEventResponse {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

// of are the events of one container or sandbox, once there are as many as
// wanted: C(reated), S(tarted), X (stopped), D(eleted).
func (e *ear) of(id, want string) []*runtimeapi.ContainerEventResponse {
	e.n.t.Helper()
	var found []*runtimeapi.ContainerEventResponse
	eventually(e.n.t, 20*time.Second, "events "+want, func() error {
		found = slices.DeleteFunc(e.heard(), func(one *runtimeapi.ContainerEventResponse) bool { return one.ContainerId != id })
		if len(found) < len(want) {
			return fmt.Errorf("heard %s", letters(found))
		}
		return nil
	})
	if got := letters(found); got != want {
		e.n.t.Errorf("events %s, want %s", got, want)
	}
	return found
}

func letters(all []*runtimeapi.ContainerEventResponse) string {
	var b strings.Builder
	for _, e := range all {
		b.WriteByte("CSXD"[e.ContainerEventType])
	}
	return b.String()
}

// statusIn is the status of a container in an event; nil when it has none.
func statusIn(e *runtimeapi.ContainerEventResponse, id string) *runtimeapi.ContainerStatus {
	for _, s := range e.ContainersStatuses {
		if s.Id == id {
			return s
		}
	}
	return nil
}

func (n *node) remove(id string) {
	n.t.Helper()
	if _, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		n.t.Fatal(err)
	}
}

func TestEvents(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	one, two := n.listen(), n.listen()
	pod := n.pod(n.podConfig("told"))
	other := n.run(pod, containerConfig("other", "sleep 1000"))
	stopped := n.run(pod, containerConfig("stopped", "sleep 1000"))
	n.stop(stopped, 0)
	quits := n.run(pod, containerConfig("quits", "exit 4"))
	n.wait(quits)
	cfg := containerConfig("fails", "")
	cfg.Command = []string{"no-such-program"}
	fails, err := n.create(pod, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: fails}); err == nil {
		t.Error("no such program was started")
	}
	unstarted, err := n.create(pod, containerConfig("unstarted", "true"))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{stopped, quits, fails, unstarted} {
		n.remove(id)
	}
	n.stopPod(pod)
	n.stopPod(pod)
	n.removePod(pod)

	for _, e := range []*ear{one, two} {
		for _, id := range []string{stopped, quits, other} {
			all := e.of(id, "CSXD")
			for i, state := range []runtimeapi.ContainerState{0, 1, 2} {
				// "exit 4" may have ended before its start was told.
				if s := statusIn(all[i], id); s == nil || s.State != state && !(id == quits && i == 1 && s.State == 2) {
					t.Errorf("event %d has the status %v", i, s)
				}
			}
			if s := statusIn(all[2], id); s.FinishedAt == 0 || s.ExitCode == 0 || s.LogPath == "" || s.Metadata.Name == "" || s.ImageId == "" {
				t.Errorf("the status of the end is not whole: %v", s)
			}
			if s := statusIn(all[3], id); s != nil {
				t.Errorf("the last event still has the container: %v", s)
			}
			if id != other && statusIn(all[2], other).GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
				t.Error("an event has not the other containers of the pod")
			}
		}
		e.of(fails, "CXD")
		e.of(unstarted, "CD")
		sandbox := e.of(pod, "CSXD")
		for i, ready := range []bool{true, true, false, false} {
			if s := sandbox[i].PodSandboxStatus; s == nil || s.Id != pod || (s.State == runtimeapi.PodSandboxState_SANDBOX_READY) != ready || s.Network.GetIp() == "" {
				t.Errorf("event %d of the sandbox has the status %v", i, s)
			}
		}
		before := int64(0)
		for _, one := range e.heard() {
			if one.CreatedAt <= before || one.PodSandboxStatus.GetMetadata().GetUid() == "" {
				t.Errorf("event %v, the one before at %d", one, before)
			}
			before = one.CreatedAt
		}
	}
	var first, second []string
	for _, e := range one.heard() {
		first = append(first, fmt.Sprint(e.CreatedAt, e.ContainerId))
	}
	for _, e := range two.heard() {
		second = append(second, fmt.Sprint(e.CreatedAt, e.ContainerId))
	}
	if !slices.Equal(first, second) {
		t.Errorf("two listeners heard different things: %v, %v", first, second)
	}
	one.end()
	wantCode(t, "a client that goes away", <-one.done, codes.Canceled)
	n.pod(n.podConfig("after"))
	if got := len(one.heard()); got != len(first) {
		t.Errorf("heard %d events after the end", got-len(first))
	}
}

// Whoever hears of an event and asks gets an answer at least as new, the newest
// container first.
func TestStatusIsNotOlderThanItsEvent(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	e := n.listen()
	pod := n.pod(n.podConfig("fresh"))
	for i := range 10 {
		id := n.run(pod, containerConfig(fmt.Sprintf("c%d", i), "exit 3"))
		e.of(id, "CSX")
		r, err := n.rt.PodSandboxStatus(n.ctx(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.ContainersStatuses) != i+1 || r.ContainersStatuses[0].Id != id {
			t.Errorf("%d statuses, the first is not the newest", len(r.ContainersStatuses))
		}
		for _, s := range r.ContainersStatuses {
			if s.Id == id && (s.State != runtimeapi.ContainerState_CONTAINER_EXITED || s.ExitCode != 3) {
				t.Errorf("status after the event: %v", s)
			}
		}
	}
}

// PID 1 of a shared namespace is the pod: its end is the pod's.
func TestEventOfAPodThatDies(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	e := n.listen()
	pod := n.pod(n.podConfig("shares-pids", func(c *runtimeapi.PodSandboxConfig) {
		c.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	}))
	c := containerConfig("c", "sleep 1000")
	c.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	id := n.run(pod, c)
	r, err := n.rt.PodSandboxStatus(n.ctx(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	var info struct{ Pid int }
	if err := json.Unmarshal([]byte(r.Info["info"]), &info); err != nil || info.Pid <= 1 {
		t.Fatalf("pid of the pod: %s, %v", r.Info["info"], err)
	}
	killPid(t, info.Pid)
	e.of(id, "CSX")
	if s := e.of(pod, "CSX")[2].PodSandboxStatus; s.State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("status: %v", s)
	}
	n.stopPod(pod)
	n.removePod(pod)
	e.of(pod, "CSXD") // and not stopped once more
	e.of(id, "CSXD")
}

// One who does not read holds nobody up, and learns that it has missed events.
func TestSlowListener(t *testing.T) {
	n := newNode(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := n.rt.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	quick := n.listen()
	// A large pod without network: many bytes of events in a short time.
	big := func(c *runtimeapi.PodSandboxConfig) {
		c.Annotations = map[string]string{"big": strings.Repeat("x", 64<<10)}
		c.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	}
	const pods = 1100 // four events each
	var wg sync.WaitGroup
	work := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range work {
				id, err := n.rt.RunPodSandbox(n.ctx(), &runtimeapi.RunPodSandboxRequest{Config: n.podConfig(fmt.Sprintf("p%d", i), big)})
				if err == nil {
					_, err = n.rt.RemovePodSandbox(n.ctx(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id.PodSandboxId})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range pods {
		work <- i
	}
	close(work)
	wg.Wait()
	eventually(t, 20*time.Second, "all events", func() error {
		if got := len(quick.heard()); got != 4*pods {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
	read := 0
	for ; err == nil; read++ {
		_, err = stream.Recv()
	}
	wantCode(t, "the slow one", err, codes.ResourceExhausted, "list")
	if read > 4*pods/2 {
		t.Errorf("it got %d of %d events", read, 4*pods)
	}
}

// A daemon that stops, or is killed, ends the stream with a word that means
// "again", and does not wait for its listeners.
func TestEventsAndARestart(t *testing.T) {
	n := newNode(t)
	e := n.listen()
	began := time.Now()
	n.cmd.Process.Signal(unix.SIGTERM)
	n.cmd.Wait()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the stop took %s", took)
	}
	wantCode(t, "a daemon that stops", <-e.done, codes.Unavailable)
	n.start()
	e = n.listen()
	pod := n.pod(n.podConfig("again"))
	e.of(pod, "CS")
	n.kill()
	if err := <-e.done; err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a daemon that is killed: %v", err)
	}
	n.start()
	e = n.listen()
	n.removePod(pod)
	e.of(pod, "XD")
}
