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

// stubborn tells of each TERM, and stays.
const stubborn = "trap 'echo term' TERM; echo ready; while :; do sleep 0.02; done"

// ready waits until a container has printed "ready".
func (n *node) ready(id string) string {
	n.t.Helper()
	path := n.status(id).LogPath
	eventually(n.t, 20*time.Second, "the program is ready", func() error {
		if exists(path) && strings.Contains(n.logged(path, "stdout"), "ready") {
			return nil
		}
		return fmt.Errorf("not yet")
	})
	return id
}

// tryStop stops with the patience of a client.
func (n *node) tryStop(id string, timeout int64, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := n.rt.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: timeout})
	return err
}

func TestStopSignals(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	n.pull(stopsInt)
	pod := n.pod(n.podConfig("signals", hostNetwork))
	image := func(ref string) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) { c.Image.Image = ref }
	}
	asked := func(s runtimeapi.Signal) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) { c.StopSignal = s }
	}
	const traps = "trap 'exit 15' TERM; trap 'exit 2' INT; trap 'exit 10' USR1; trap 'exit 36' 36; echo ready; while :; do sleep 0.02; done"
	for name, tc := range map[string]struct {
		script string
		change []func(*runtimeapi.ContainerConfig)
		grace  int64
		signal runtimeapi.Signal
		code   int32
		reason string
	}{
		"default":               {traps, nil, 60, runtimeapi.Signal_SIGNAL_SIGTERM, 15, "Error"},
		"of-the-image":          {traps, []func(*runtimeapi.ContainerConfig){image(stopsInt)}, 60, runtimeapi.Signal_SIGNAL_SIGINT, 2, "Error"},
		"asked-for":             {traps, []func(*runtimeapi.ContainerConfig){image(stopsInt), asked(runtimeapi.Signal_SIGNAL_SIGUSR1)}, 60, runtimeapi.Signal_SIGNAL_SIGUSR1, 10, "Error"},
		"real-time":             {traps, []func(*runtimeapi.ContainerConfig){asked(runtimeapi.Signal_SIGNAL_SIGRTMINPLUS2)}, 60, runtimeapi.Signal_SIGNAL_SIGRTMINPLUS2, 36, "Error"},
		"ends-well":             {"trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done", nil, 60, runtimeapi.Signal_SIGNAL_SIGTERM, 0, "Completed"},
		"at-once":               {traps, nil, 0, runtimeapi.Signal_SIGNAL_SIGTERM, 137, "Error"},
		"ignored":               {"trap '' TERM; echo ready; sleep 1000; :", nil, 1, runtimeapi.Signal_SIGNAL_SIGTERM, 137, "Error"},
		"no-handler-of-process": {"echo ready; sleep 1000; :", nil, 1, runtimeapi.Signal_SIGNAL_SIGTERM, 137, "Error"}, // PID 1 has no default action
	} {
		n.sub(name, func(n *node) {
			id := n.ready(n.run(pod, containerConfig(name, tc.script, tc.change...)))
			if st := n.status(id); st.StopSignal != tc.signal {
				t.Errorf("stop signal in the status: %s", st.StopSignal)
			}
			began := time.Now()
			n.stop(id, tc.grace)
			took := time.Since(began)
			st := n.status(id)
			if st.State != runtimeapi.ContainerState_CONTAINER_EXITED || st.ExitCode != tc.code || st.Reason != tc.reason {
				t.Errorf("%s after %s: exit %d, %s", st.State, took, st.ExitCode, st.Reason)
			}
			if tc.code == 137 && took < time.Duration(tc.grace)*time.Second {
				t.Errorf("killed after %s, before the grace of %d s was over", took, tc.grace)
			}
			n.stop(id, tc.grace) // once more
		})
	}
}

// Where the end of a container's program is not the end of its PID namespace, what
// it leaves behind keeps its output open. How the program ended is known all the same.
func TestStopLeavesAChild(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	for name, mode := range map[string]runtimeapi.NamespaceMode{
		"of-the-host": runtimeapi.NamespaceMode_NODE, "of-the-pod": runtimeapi.NamespaceMode_POD,
	} {
		n.sub(name, func(n *node) {
			options := &runtimeapi.NamespaceOption{Pid: mode}
			pod := n.pod(n.podConfig(name, podNamespaces(options)))
			id := n.ready(n.run(pod, containerConfig(name, "trap 'exit 7' TERM; echo ready; sleep 1000 & wait", inNamespaces(options))))
			n.stop(id, 60)
			if st := n.status(id); st.ExitCode != 7 || st.Reason != "Error" {
				t.Errorf("exit %d, %s: %s", st.ExitCode, st.Reason, st.Message)
			}
		})
	}
}

// The kubelet repeats StopContainer; the program must see one signal, and a
// later call can only shorten the wait.
func TestStopIsRepeated(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("repeated", hostNetwork))
	id := n.ready(n.run(pod, containerConfig("c", stubborn)))
	for range 4 {
		if err := n.tryStop(id, 600, 150*time.Millisecond); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a stop that takes longer than its client waits: %v", err)
		}
	}
	if st := n.status(id); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING || st.FinishedAt != 0 || st.ExitCode != 0 {
		t.Errorf("being stopped: %v", st)
	}
	if out, code := n.exec(id, "echo yes"); out != "yes\n" || code != 0 {
		t.Errorf("exec while it is being stopped: %q, %d", out, code)
	}
	// One waits long, another is in a hurry: both return when it is gone.
	long := make(chan error, 1)
	go func() { long <- n.tryStop(id, 600, time.Minute) }()
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	if err := n.tryStop(id, 1, time.Minute); err != nil {
		t.Errorf("the shorter stop: %v", err)
	}
	if err := <-long; err != nil {
		t.Errorf("the longer stop: %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	st := n.status(id)
	if st.ExitCode != 137 {
		t.Errorf("ended: %v", st)
	}
	if got := n.logged(st.LogPath, "stdout"); got != "ready\nterm\n" {
		t.Errorf("the program saw %q, want one TERM", got)
	}
}

// What StopContainer began goes on when its client and the daemon are gone.
func TestStopOutlivesTheDaemon(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("outlives", hostNetwork))
	id := n.ready(n.run(pod, containerConfig("c", stubborn)))
	if err := n.tryStop(id, 1, 100*time.Millisecond); status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	n.kill()
	time.Sleep(1500 * time.Millisecond)
	n.start()
	if st := n.status(id); st.State != runtimeapi.ContainerState_CONTAINER_EXITED || st.ExitCode != 137 {
		t.Errorf("ended: %v", st)
	}
	// And one under way across a restart is not signalled again by the next call.
	id = n.ready(n.run(pod, containerConfig("d", stubborn)))
	if err := n.tryStop(id, 600, 100*time.Millisecond); status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	n.restart()
	if err := n.tryStop(id, 600, 200*time.Millisecond); status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	n.stop(id, 0)
	if got := n.logged(n.status(id).LogPath, "stdout"); got != "ready\nterm\n" {
		t.Errorf("the program saw %q, want one TERM", got)
	}
}

// A stop of what has not started, of what has ended, and of a whole pod.
func TestStopsOfAllStates(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("states"))
	created, err := n.create(pod, containerConfig("created", "echo ran"))
	if err != nil {
		t.Fatal(err)
	}
	n.stop(created, 10)
	if st := n.status(created); st.State != runtimeapi.ContainerState_CONTAINER_CREATED {
		t.Errorf("a stop of a created container made it %s", st.State)
	}
	if _, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: created}); err != nil {
		t.Errorf("start after a stop: %v", err)
	}
	exited := n.wait(created)
	n.stop(created, 10)
	if st := n.status(created); st.FinishedAt != exited.FinishedAt || st.ExitCode != 0 {
		t.Errorf("a stop changed an exited container: %v, before: %v", st, exited)
	}

	// Children in sessions of their own go with their container.
	tree := n.ready(n.run(pod, containerConfig("tree", "setsid sh -c 'trap \"\" TERM HUP; sleep 1001; :' & (setsid sleep 1002 &); trap '' TERM; echo ready; sleep 1003; :")))
	late, err := n.create(pod, containerConfig("late", "true"))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	n.stopPod(pod)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("StopPodSandbox waited for programs: %s", took)
	}
	if st := n.status(tree); st.State != runtimeapi.ContainerState_CONTAINER_EXITED || st.ExitCode != 137 {
		t.Errorf("after StopPodSandbox: %v", st)
	}
	if left := n.processes(); len(left) != 0 {
		t.Errorf("processes left: %v", left)
	}
	_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: late})
	wantCode(t, "start in a stopped pod", err, codes.FailedPrecondition, "notready")
	_, err = n.rt.ExecSync(n.ctx(), &runtimeapi.ExecSyncRequest{ContainerId: tree, Cmd: []string{"true"}})
	wantCode(t, "exec in an exited container", err, codes.FailedPrecondition, "exited")
	_, err = n.rt.StopContainer(n.ctx(), &runtimeapi.StopContainerRequest{ContainerId: tree, Timeout: -1})
	wantCode(t, "negative timeout", err, codes.InvalidArgument, "timeout", "-1")

	// Removal of what runs, and of a pod with what runs.
	other := n.pod(n.podConfig("other"))
	runs := n.run(other, containerConfig("runs", "sleep 1000"))
	if _, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: runs}); err != nil {
		t.Errorf("remove a running container: %v", err)
	}
	n.run(other, containerConfig("runs", "sleep 1000"))
	n.removePod(other)
	if got := strings.Join(n.containerNames(nil), " "); got != "created late tree" {
		t.Errorf("containers: %s", got)
	}
}
