package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	one, two := prepareNode(t), prepareNode(t)
	one.start()
	two.start()
	for _, n := range []*node{one, two} {
		n.pull(busybox)
		n.run(n.pod(n.podConfig("same")), containerConfig("same", "sleep 1000; :"))
	}
	if a, b := one.podNames(nil), two.podNames(nil); len(a) != 1 || len(b) != 1 {
		t.Errorf("pods: %v, %v", a, b)
	}
	if one.monitor() == two.monitor() {
		t.Error("they share a monitor")
	}
	// A second daemon on the same directories, alone or in part.
	for name, args := range map[string][]string{
		"all":        nil,
		"root only":  {"--state", one.path("other-state"), "--listen", one.path("other.sock")},
		"state only": {"--root", one.path("other-root"), "--listen", one.path("other.sock")},
	} {
		cmd := exec.Command(filepath.Join(programs, "berth"), append([]string{"serve", "--config", one.path("config.toml")}, args...)...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "in use by another berth daemon") {
			t.Errorf("%s: %v, %s", name, err, out)
		}
		unix.Unmount(one.path("other-state"), unix.MNT_DETACH)
	}
	if st := one.podNames(nil); len(st) != 1 {
		t.Errorf("the first does not answer any more: %v", st)
	}
}

func TestGracefulStop(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("stays"))
	id := n.run(pod, containerConfig("counter", counter))
	pid := n.monitor()
	// A request under way is answered.
	done := make(chan error, 1)
	go func() {
		r, err := n.execSync(n.ctx(), id, 0, "sh", "-c", "sleep 0.5; exit 4")
		if err == nil && r.ExitCode != 4 {
			err = fmt.Errorf("exit %d", r.ExitCode)
		}
		done <- err
	}()
	time.Sleep(200 * time.Millisecond)
	n.cmd.Process.Signal(unix.SIGTERM)
	if err := n.cmd.Wait(); err != nil {
		t.Errorf("the daemon ended with %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("a request under way: %v", err)
	}
	if exists(n.path("sock")) {
		t.Error("the socket is still there")
	}
	before := n.counted(n.path("log/stays/counter.log"))
	time.Sleep(200 * time.Millisecond)
	if after := n.counted(n.path("log/stays/counter.log")); after <= before {
		t.Error("the log stands still without the daemon")
	}
	n.start()
	if n.monitor() != pid {
		t.Error("the monitor was changed")
	}
	if st := n.status(id); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("after the restart: %v", st)
	}
	n.stop(id, 0)
	n.counted(n.path("log/stays/counter.log"))
}

// One that has to be cut off ends in time.
func TestStopWithARequestThatHangs(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("hangs")
	done := make(chan error, 1)
	go func() {
		_, err := n.execSync(n.ctx(), id, 0, "sleep", "1000")
		done <- err
	}()
	time.Sleep(200 * time.Millisecond)
	began := time.Now()
	n.cmd.Process.Signal(unix.SIGTERM)
	n.cmd.Wait()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if err := <-done; err == nil {
		t.Error("the command ended")
	}
	n.start()
}

// A record that cannot be read is set aside; what it was about goes, the rest stays.
func TestBrokenRecords(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	n.pull(users)
	whole := n.pod(n.podConfig("whole"))
	wholeContainer := n.run(whole, containerConfig("c", "sleep 1000; :"))
	shared := podNamespaces(&runtimeapi.NamespaceOption{})
	for name, tc := range map[string]struct {
		file    func(pod, container string) string
		content string
	}{
		"empty pod record":       {func(pod, _ string) string { return n.path("state/pods", pod, "pod.json") }, ""},
		"torn pod record":        {func(pod, _ string) string { return n.path("state/pods", pod, "pod.json") }, `{"version":1,"id":"`},
		"pod record of a future": {func(pod, _ string) string { return n.path("state/pods", pod, "pod.json") }, `{"version":99}`},
		"another's pod record":   {func(pod, _ string) string { return n.path("state/pods", pod, "pod.json") }, `{"version":1,"id":"../../etc","state":"ready","config":{"metadata":{}}}`},
		"torn container record":  {func(_, c string) string { return n.path("state/containers", c, "container.json") }, `{"version":1`},
		"torn status":            {func(_, c string) string { return n.path("state/containers", c, "status.json") }, `{"version"`},
		"status of no state":     {func(_, c string) string { return n.path("state/containers", c, "status.json") }, `{"version":1,"state":"dancing"}`},
		"status that says gone":  {func(_, c string) string { return n.path("state/containers", c, "status.json") }, `{"version":1,"state":"gone"}`},
		"torn OCI spec":          {func(_, c string) string { return n.path("state/containers", c, "config.json") }, `{`},
		"torn exit":              {func(_, c string) string { return n.path("state/containers", c, "exit.json") }, `{`},
		"torn network record":    {func(pod, _ string) string { return n.path("root/cni/attachments", pod+".json") }, `{`},
	} {
		t.Run(name, func(t *testing.T) {
			short := strings.ReplaceAll(name, " ", "-")
			pod := n.pod(n.podConfig(short, shared))
			id := n.run(pod, containerConfig("c", "sleep 1000; :", inNamespaces(&runtimeapi.NamespaceOption{})))
			n.kill()
			if err := os.WriteFile(tc.file(pod, id), []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			n.start()
			if st := n.podStatus(whole); st.State != runtimeapi.PodSandboxState_SANDBOX_READY {
				t.Errorf("another pod is %s", st.State)
			}
			if out, code := n.exec(wholeContainer, "echo ok"); out != "ok\n" || code != 0 {
				t.Errorf("exec in another container: %q", out)
			}
			// The kubelet makes what it misses anew, and removes what it finds.
			n.removePod(pod)
			list, err := n.rt.ListContainers(n.ctx(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range list.Containers {
				if c.Id != wholeContainer {
					if _, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: c.Id}); err != nil {
						t.Errorf("remove what is left: %v", err)
					}
				}
			}
			n.removePod(n.pod(n.podConfig(short, shared)))
			eventually(t, 10*time.Second, "no process is left", func() error {
				if left := n.processes(); len(left) != 2 { // sh and sleep of the whole container
					return fmt.Errorf("%v", left)
				}
				return nil
			})
		})
	}
	// The broken ones are kept for people until the next start, and then go.
	n.restart()
	n.restart()
	if left := entries(n.path("state/pods")); len(left) != 1 {
		t.Errorf("pod directories: %v", left)
	}
	if left := entries(n.path("state/containers")); len(left) != 1 {
		t.Errorf("container directories: %v", left)
	}
}

func TestBrokenImages(t *testing.T) {
	n := newNode(t)
	id := n.pull(busybox)
	other := n.pull(users)
	record := n.path("root/images", strings.TrimPrefix(id, "sha256:")+".json")
	for name, damage := range map[string]func(){
		"torn record":    func() { os.WriteFile(record, []byte(`{"version`), 0o600) },
		"missing config": func() { os.Remove(n.path("root/blobs/sha256", strings.TrimPrefix(id, "sha256:"))) },
		"empty config":   func() { os.WriteFile(n.path("root/blobs/sha256", strings.TrimPrefix(id, "sha256:")), nil, 0o600) },
		"missing layer": func() {
			for _, l := range n.layers() {
				os.RemoveAll(n.path("root/layers/sha256", l))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n.kill()
			damage()
			n.start()
			if n.image(busybox) != nil {
				t.Error("a damaged image is listed")
			}
			for _, ref := range []string{busybox, users} {
				n.pull(ref)
			}
			if n.image(busybox).GetId() != id || n.image(users).GetId() != other {
				t.Errorf("pulled again: %v", n.imageList())
			}
			pod := n.pod(n.podConfig("p", hostNetwork))
			if out, _ := n.output(pod, strings.ReplaceAll(name, " ", "-"), "ls /bin | wc -l"); atoi(out) < 100 {
				t.Errorf("its layer has %s programs", out)
			}
			n.removePod(pod)
		})
	}
}

// The gate is closed until everything is taken up.
func TestRequestsBeforeRecovery(t *testing.T) {
	n := newNode(t)
	_, err := n.rt.Status(n.ctx(), &runtimeapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	n.kill()
	_, err = n.rt.Status(n.ctx(), &runtimeapi.StatusRequest{})
	wantCode(t, "without a daemon", err, codes.Unavailable)
	n.start()
}
