package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A refusal undoes everything, all plugins hear of it, and the next try works.
func TestNRIRefusals(t *testing.T) {
	n := newNode(t, patient)
	n.pull(busybox)
	var refuse error
	n.plugin("20-strict", func(p *nriPlugin) {
		p.runPod = func(*api.PodSandbox) error { return refuse }
		p.create = func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
			return nil, nil, refuse
		}
		p.start = func(*api.Container) error { return refuse }
	})
	ear := n.plugin("10-ear", nil)
	refuse = errors.New("not in my house")
	cfg := n.podConfig("wanted")
	_, err := n.runPod(n.ctx(), cfg)
	wantCode(t, "pod", err, codes.FailedPrecondition, "not in my house")
	n.leaksOver()
	refuse = nil
	pod := n.pod(cfg)

	refuse = errors.New("not in my pod")
	c := containerConfig("wanted", "sleep 1000")
	_, err = n.create(pod, c)
	wantCode(t, "create", err, codes.FailedPrecondition, "not in my pod")
	if left := append(entries(n.path("state/containers")), entries(n.path("root/containers"))...); len(left) > 0 {
		t.Errorf("left of a container that was not created: %v", left)
	}
	refuse = nil
	id, err := n.create(pod, c)
	if err != nil {
		t.Fatal(err)
	}
	refuse = errors.New("not now")
	_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
	wantCode(t, "start", err, codes.FailedPrecondition, "not now")
	if st := n.status(id); st.State != runtimeapi.ContainerState_CONTAINER_EXITED || st.Reason != "StartError" || st.ExitCode != 128 || !strings.Contains(st.Message, "not now") {
		t.Errorf("status: %v", st)
	}
	n.removePod(pod)
	want := []string{
		"Synchronize", "RunPodSandbox wanted", "StopPodSandbox wanted", "RemovePodSandbox wanted", "RunPodSandbox wanted",
		"CreateContainer wanted", "StopContainer wanted", "RemoveContainer wanted",
		"CreateContainer wanted", "PostCreateContainer wanted", "StartContainer wanted", "StopContainer wanted",
		"StopPodSandbox wanted", "RemoveContainer wanted", "RemovePodSandbox wanted",
	}
	if got := ear.all(); !slices.Equal(got, want) {
		t.Errorf("another plugin was told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func impatient(n *node) {
	n.config = "[nri]\nplugin_request_timeout = \"1s\"\nplugin_registration_timeout = \"3s\"" // of a plugin that answers, an emulated machine takes some
}

// A plugin that does not answer is let go, and everything goes on without it,
// unless the plugin wishes otherwise.
func TestNRIPluginsThatHang(t *testing.T) {
	n := newNode(t, impatient)
	n.pull(busybox)
	forever := make(chan struct{})
	defer close(forever)
	hangs := func(p *nriPlugin) {
		p.create = func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
			<-forever
			return nil, nil, nil
		}
		p.stop = func(*api.Container) ([]*api.ContainerUpdate, error) {
			<-forever
			return nil, nil
		}
	}
	pod := n.pod(n.podConfig("patience"))
	one := n.plugin("10-one", hangs)
	ear := n.plugin("20-ear", nil)
	id := n.run(pod, containerConfig("goes-on", "sleep 1000"))
	select {
	case <-one.closed:
	case <-time.After(10 * time.Second):
		t.Error("the plugin that hangs is still connected")
	}
	n.plugin("30-two", func(p *nriPlugin) { hangs(p); p.create = nil })
	n.stop(id, 0)
	ear.told("StopContainer goes-on")

	// While it joins, what must not escape it waits for as long as it may take.
	late := n.join("35-late", func(p *nriPlugin) { p.sync = func() error { <-forever; return nil } })
	n.run(pod, containerConfig("beside", "sleep 1000"))
	select {
	case <-late.closed:
	case <-time.After(10 * time.Second):
		t.Error("the plugin that does not join is still connected")
	}
	// One that connects and says nothing is in nobody's way.
	silent, err := net.Dial("unix", n.path("state/nri.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	n.run(pod, containerConfig("beside-the-silent", "sleep 1000"))

	strict := n.plugin("40-strict", hangs, stub.WithFailurePolicy(&api.FailurePolicy{FailRequest: true, KeepConnected: true}))
	for range 2 { // it stays
		_, err := n.create(pod, containerConfig("refused", "true"))
		wantCode(t, "a plugin that insists", err, codes.FailedPrecondition, "strict")
	}
	strict.stub.Stop()
	if _, err := n.create(pod, containerConfig("refused", "true")); err != nil {
		t.Errorf("without it: %v", err)
	}
}

// One that dies in the middle of a call, or between two, leaves no trace.
func TestNRIPluginsThatDie(t *testing.T) {
	n := newNode(t, patient)
	n.pull(busybox)
	pod := n.pod(n.podConfig("survivor"))
	n.plugin("10-dies", func(p *nriPlugin) {
		p.create = func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
			go p.stub.Stop()
			<-p.closed
			return nil, nil, nil
		}
	})
	id := n.run(pod, containerConfig("one", "sleep 1000"))
	between := n.plugin("10-between", nil)
	between.stub.Stop()
	n.run(pod, containerConfig("two", "sleep 1000"))
	n.stop(id, 0)
	n.plugin("10-killed", func(p *nriPlugin) {
		p.stop = func(*api.Container) ([]*api.ContainerUpdate, error) {
			go p.stub.Stop()
			<-p.closed
			return nil, nil
		}
	})
	n.removePod(pod)
}

// A validator has the last word; the default one comes with the daemon.
func TestNRIValidators(t *testing.T) {
	n := newNode(t, func(n *node) {
		n.config = `[nri.default_validator]
enable = true
reject_sysctl_adjustment = true
reject_oci_hook_adjustment = true
required_plugins = ["needed"]
tolerate_missing_plugins_annotation = "without.plugins"`
	})
	n.pull(busybox)
	pod := n.pod(n.podConfig("checked"))
	_, err := n.create(pod, containerConfig("early", "true"))
	wantCode(t, "without the plugin", err, codes.FailedPrecondition, "needed")
	tolerant := n.pod(n.podConfig("tolerant", func(c *runtimeapi.PodSandboxConfig) {
		c.Annotations["without.plugins/pod"] = "true"
	}))
	if _, err := n.create(tolerant, containerConfig("early", "true")); err != nil {
		t.Errorf("a pod that is made all the same: %v", err)
	}
	p := n.plugin("10-needed", func(p *nriPlugin) {
		p.create = func(_ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
			a := &api.ContainerAdjustment{}
			switch c.Name {
			case "sysctl":
				a.SetLinuxSysctl("net.ipv4.ip_default_ttl", "33")
			case "hook":
				a.AddHooks(&api.Hooks{CreateRuntime: []*api.Hook{{Path: "/bin/true"}}})
			}
			return a, nil, nil
		}
		p.validate = func(r *api.ValidateContainerAdjustmentRequest) error {
			if r.Container.Name == "disliked" {
				return errors.New("I do not like it")
			}
			return nil
		}
	})
	for name, word := range map[string]string{"sysctl": "sysctl", "hook": "hook", "disliked": "I do not like it"} {
		_, err := n.create(pod, containerConfig(name, "true"))
		wantCode(t, name, err, codes.FailedPrecondition, word)
		p.told("RemoveContainer " + name)
	}
	if _, err := n.create(pod, containerConfig("plain", "true")); err != nil {
		t.Error(err)
	}
}

// Plugins that come with the node are started and ended with the daemon.
func TestNRIPluginPrograms(t *testing.T) {
	dir := t.TempDir() // not the node's: its processes are looked at for leaks
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"30-broken": "#!/bin/false\n", "README": "not a program\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(filepath.Join(dir, "30-broken"), 0o755)
	for _, name := range []string{"10-first", "20-second"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	n := newNode(t, func(n *node) {
		n.write("nri.d/10-first.conf", n.path("first.log")+"\n")
		n.write("nri.d/second.conf", n.path("second.log")+"\n")
		n.config = fmt.Sprintf("[nri]\ndisable_connections = true\nplugin_path = %q\nplugin_config_path = %q", dir, n.path("nri.d"))
	})
	if exists(n.path("state/nri.sock")) {
		t.Error("there is a socket to connect to")
	}
	n.pull(busybox)
	pod := n.pod(n.podConfig("programs"))
	if out, st := n.output(pod, "one", "echo $FROM_first $FROM_second"); out != "yes yes\n" {
		t.Errorf("printed %q, %v", out, st)
	}
	lines := func(file string) []string {
		b, _ := os.ReadFile(n.path(file))
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
	want := []string{"10-first of berth", "0 pods, 0 containers", "create one", "stop one"}
	eventually(t, 10*time.Second, "the first program is told all", func() error {
		if got := lines("first.log"); !slices.Equal(got, want) {
			return errors.New(strings.Join(got, "; "))
		}
		return nil
	})
	gone := func(what string) {
		t.Helper()
		eventually(t, 10*time.Second, what, func() error {
			if left := running(dir); len(left) > 0 {
				return errors.New(strings.Join(left, "; "))
			}
			return nil
		})
	}
	n.terminate()
	gone("the programs are ended")
	n.start()
	n.kill() // nobody is there to end them
	gone("the programs end by themselves")
	n.start()
	if got := lines("second.log"); got[len(got)-1] != "1 pods, 0 containers" {
		t.Errorf("after the restarts: %q", got)
	}
}

// Who else serves the socket keeps it.
func TestNRISocketOfAnother(t *testing.T) {
	shared := filepath.Join(t.TempDir(), "nri.sock")
	sharing := func(n *node) { n.config = fmt.Sprintf("[nri]\nsocket_path = %q", shared) }
	one := newNode(t, sharing)
	other := prepareNode(t, sharing)
	other.launch()
	if err := other.cmd.Wait(); err == nil || !strings.Contains(other.log.String(), "served by another runtime") {
		t.Errorf("a second daemon on the socket: %v, %s", err, other.log)
	}
	one.kill() // which leaves the file
	one.config = ""
	one.configure()
	one.start()
	other.start()
	conn, err := net.Dial("unix", shared)
	if err != nil {
		t.Fatalf("the socket of one that is dead was not taken over: %v", err)
	}
	conn.Close()
}

// running are the processes of programs in a directory.
func running(dir string) (found []string) {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range list {
		if b, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(b), dir+"/") {
			found = append(found, string(b))
		}
	}
	return found
}
