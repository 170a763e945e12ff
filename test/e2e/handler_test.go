package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// standardRuntime is the handler of pods that name none: BERTH_E2E_RUNTIME makes
// the whole suite run over runc or crun.
var standardRuntime = cmp.Or(os.Getenv("BERTH_E2E_RUNTIME"), "berth")

// own chooses between what the embedded runtime and others do.
func own[T any](embedded, other T) T {
	if standardRuntime == "berth" {
		return embedded
	}
	return other
}

// ociRuntimes configures handlers that have the names of their programs.
func ociRuntimes(names ...string) string {
	config := ""
	for _, name := range names {
		config += fmt.Sprintf("\n[runtimes.%s]\ntype = \"oci\"\npath = %q\n", name, runtimeProgram(name))
	}
	return config
}

// runtimeProgram is the program that BERTH_E2E_RUNC or BERTH_E2E_CRUN names, else
// that in PATH.
func runtimeProgram(name string) string {
	variable := map[string]string{"runc": "BERTH_E2E_RUNC", "crun": "BERTH_E2E_CRUN"}[name]
	if path := os.Getenv(variable); path != "" {
		return path
	}
	path, _ := exec.LookPath(name)
	return path
}

// overOthers is the part of this suite that each run of the tests does over other
// runtimes too.
var overOthers = []string{
	// Not StreamExecTerminal: now and then stty says something more over runc.
	"WholeWay", "Exits", "StartErrors", "ExecSync", "ExecTimeoutKillsAll", "StreamAttach", "StreamAttachTerminal",
	"StopSignals", "StopsOfAllStates", "DaemonKilled", "MonitorKilled", "BothKilled", "MonitorIsKilledInAStart", "KilledAtEveryStep",
	"BrokenRecords", "OOM", "Limits", "UpdateOfARunningContainer", "SharedPIDs", "TargetPIDs", "Users", "Confinement", "Devices",
	"ImageVolumes", "MountPropagation", "RecursiveReadOnly", "UserNamespaces", "UserNamespaceThroughRestarts",
}

func TestOverRunc(t *testing.T) { t.Parallel(); overOther(t, "runc") }

func TestOverCrun(t *testing.T) {
	t.Parallel()
	if b, err := os.ReadFile("/sys/fs/cgroup/unified/cgroup.controllers"); err == nil && len(b) > 1 {
		t.Skip("crun refuses hosts that have controllers both on cgroup v1 and on cgroup2: " + strings.TrimSpace(string(b)))
	}
	overOther(t, "crun")
}

// overOther runs them in a process of its own.
func overOther(t *testing.T, name string) {
	if standardRuntime != "berth" {
		t.Skip("this run is over another runtime as a whole: " + standardRuntime)
	}
	if runtimeProgram(name) == "" {
		t.Fatalf("%s is not installed: run hack/install-test-tools", name)
	}
	cmd := exec.Command(os.Args[0], "-test.v", "-test.parallel=2", "-test.run=^Test("+strings.Join(overOthers, "|")+")$")
	cmd.Env = append(os.Environ(), "BERTH_E2E_RUNTIME="+name, "BERTH_PROGRAMS="+programs)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("over %s: %v\n%s", name, err, out)
	}
	if passed := strings.Count(string(out), "\n--- PASS"); err == nil && passed < len(overOthers)-3 { // those that the host or the runtime lacks
		t.Errorf("over %s only %d tests have run:\n%s", name, passed, out)
	}
}

// TestHandlers is about choosing a runtime.
func TestHandlers(t *testing.T) {
	n := newNode(t, func(n *node) {
		n.runtimes = []string{"runc"}
		n.config += `
[runtimes.annotated]
type = "oci"
path = "` + runtimeProgram("runc") + `"
pod_annotations = ["example.com/*"]
container_annotations = ["note", "example.com/own"]
privileged_without_host_devices = true
`
	})
	n.pull(busybox)
	st, err := n.rt.Status(n.ctx(), &runtimeapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, h := range st.RuntimeHandlers {
		names = append(names, h.Name)
		if !h.Features.RecursiveReadOnlyMounts {
			t.Errorf("%q cannot do recursive read-only mounts", h.Name)
		}
	}
	if want := []string{"", "annotated", "berth", "runc"}; !slices.Equal(names, want) {
		t.Errorf("handlers %q, want %q", names, want)
	}
	_, err = n.rt.RunPodSandbox(n.ctx(), &runtimeapi.RunPodSandboxRequest{Config: n.podConfig("kata"), RuntimeHandler: "kata"})
	wantCode(t, "an unknown handler", err, codes.InvalidArgument, "kata", "runc")

	runs := func(name, handler string, change ...func(*runtimeapi.ContainerConfig)) (id string) {
		cfg := n.podConfig(name, func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.SecurityContext.Privileged = true
			c.Annotations = map[string]string{"example.com/pod": "1", "example.com/own": "pod's", "other": "2", "example.com/a/b": "3"}
		})
		r, err := n.rt.RunPodSandbox(n.ctx(), &runtimeapi.RunPodSandboxRequest{Config: cfg, RuntimeHandler: handler})
		if err != nil {
			t.Fatal(err)
		}
		if got := n.podStatus(r.PodSandboxId).RuntimeHandler; got != handler {
			t.Errorf("status tells of handler %q, want %q", got, handler)
		}
		c := containerConfig("c", "sleep 1000; :", change...)
		c.Annotations = map[string]string{"note": "x", "example.com/own": "container's", "another": "y"}
		return n.run(r.PodSandboxId, c)
	}
	spec := func(id string) (s struct{ Annotations map[string]string }) {
		if err := json.Unmarshal([]byte(command("cat", n.path("state/containers", id, "config.json"))), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	privileged := secured(func(s *securityContext) { s.Privileged = true })
	plain, annotated, embedded := runs("plain", "runc", privileged), runs("annotated", "annotated", privileged), runs("embedded", "berth", privileged)

	// Each is where it should be, and nowhere else.
	for handler, id := range map[string]string{"runc": plain, "annotated": annotated} {
		if found := entries(n.path("state/runtimes", handler)); !slices.Equal(found, []string{id}) {
			t.Errorf("%s knows %v, want %s", handler, found, id)
		}
	}
	for _, id := range []string{plain, annotated, embedded} {
		if out, code := n.exec(id, "echo here"); out != "here\n" || code != 0 {
			t.Errorf("exec: %q, %d", out, code)
		}
	}
	if left := n.mounts(); slices.ContainsFunc(left, func(m string) bool { return strings.Contains(m, "overlay") }) {
		t.Errorf("roots are mounted on the host: %v", left)
	}
	if a := spec(plain).Annotations; a["example.com/pod"] != "" || a["note"] != "" || a["io.kubernetes.cri.container-name"] != "c" {
		t.Errorf("annotations without patterns: %v", a)
	}
	a := spec(annotated).Annotations
	if a["example.com/pod"] != "1" || a["example.com/own"] != "container's" || a["note"] != "x" || a["another"]+a["other"]+a["example.com/a/b"] != "" {
		t.Errorf("annotations by patterns: %v", a)
	}
	count := func(id string) int { return atoi(n.must(id, "ls /dev | wc -l")) }
	if all, few := count(plain), count(annotated); all <= few {
		t.Errorf("a privileged container has %d devices, and %d without those of the host", all, few)
	}

	// What a handler has started goes on without it; nothing new is made by it.
	pod := n.podOf(annotated)
	n.reconfigure("[runtimes.runc]\ntype = \"embedded\"\npath = \"\"\n[runtimes.annotated]\ntype = \"embedded\"\npath = \"\"\nprivileged_without_host_devices = false\n")
	if out, code := n.exec(annotated, "echo still"); out != "still\n" || code != 0 {
		t.Errorf("exec after the handler has changed: %q, %d", out, code)
	}
	second := n.run(pod, containerConfig("second", "sleep 1000; :"))
	if found := entries(n.path("state/runtimes/annotated")); len(found) != 1 {
		t.Errorf("runc knows %v", found)
	}
	n.stop(second, 0)
	n.stop(annotated, 0)
	eventually(t, 5*time.Second, "it is deleted", func() error {
		if found := entries(n.path("state/runtimes/annotated")); len(found) != 0 {
			return fmt.Errorf("%v", found)
		}
		return nil
	})
}

// TestHandlerWithoutProgram says it when the daemon starts, and before.
func TestHandlerWithoutProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := dir + "/config.toml"
	text := fmt.Sprintf("root = %q\nstate = %q\n[runtimes.kata]\ntype = \"oci\"\npath = %q\n", dir+"/root", dir+"/state", dir+"/no-such-runtime")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"config", "check", "--config", file}, {"serve", "--config", file}} {
		out, err := exec.Command(programs+"/berth", args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "runtimes.kata.path") || !strings.Contains(string(out), "no-such-runtime does not exist") {
			t.Errorf("%s: %v, %s", args[0], err, out)
		}
	}
	command("umount", "--recursive", dir+"/state")
}

// TestHandlerNetwork gives the pods of a handler a network of their own.
func TestHandlerNetwork(t *testing.T) {
	n := newNode(t, func(n *node) {
		n.config += fmt.Sprintf("\n[runtimes.elsewhere]\ntype = \"embedded\"\ncni_conf_dir = %q\n", n.path("other.d"))
	})
	n.installPlugin()
	n.pull(busybox)
	run := func(name, handler string) (string, error) {
		r, err := n.rt.RunPodSandbox(n.ctx(), &runtimeapi.RunPodSandboxRequest{Config: n.podConfig(name), RuntimeHandler: handler})
		return r.GetPodSandboxId(), err
	}
	if _, err := run("early", "elsewhere"); err == nil {
		t.Error("a pod without a network configuration")
	}
	n.write("other.d/10-shell.conflist", shellNetwork)
	var pod string
	eventually(t, 10*time.Second, "the network is noticed", func() (err error) {
		pod, err = run("late", "elsewhere")
		return err
	})
	if got := n.calls(pod); !slices.Equal(got, []string{"ADD"}) {
		t.Errorf("the plugin was asked %v", got)
	}
	usual := n.pod(n.podConfig("usual"))
	if got := n.calls(usual); len(got) != 0 {
		t.Errorf("for a pod of the other handler: %v", got)
	}
	n.restart()
	n.removePod(pod)
	if got := n.calls(pod); len(got) < 2 || got[len(got)-1] != "DEL" {
		t.Errorf("the plugin was asked %v", got)
	}
	_ = usual
}

func (n *node) podOf(id string) string {
	n.t.Helper()
	list, err := n.rt.ListContainers(n.ctx(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{Id: id}})
	if err != nil || len(list.Containers) != 1 {
		n.t.Fatalf("%v, %v", list, err)
	}
	return list.Containers[0].PodSandboxId
}
