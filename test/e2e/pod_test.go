package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// callLimit is the deadline of every call of a test: far more than it takes.
var callLimit = patience(60 * time.Second)

func (n *node) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	n.t.Cleanup(cancel)
	return ctx
}

// podConfig is a pod of its own, with a PID namespace for each container.
func (n *node) podConfig(name string, change ...func(*runtimeapi.PodSandboxConfig)) *runtimeapi.PodSandboxConfig {
	cfg := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "e2e", Uid: fmt.Sprintf("%s-%d", name, n.n)},
		Hostname:     name,
		LogDirectory: n.path("log", name),
		Labels:       map[string]string{"pod": name},
		Annotations:  map[string]string{"note": "kept ünchanged"},
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: n.cgroup,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			},
		},
	}
	for _, f := range change {
		f(cfg)
	}
	return cfg
}

// pod runs a sandbox.
func (n *node) pod(cfg *runtimeapi.PodSandboxConfig) string {
	n.t.Helper()
	r, err := n.rt.RunPodSandbox(n.ctx(), &runtimeapi.RunPodSandboxRequest{Config: cfg})
	if err != nil {
		n.t.Fatalf("run pod %s: %v", cfg.Metadata.Name, err)
	}
	return r.PodSandboxId
}

func (n *node) podStatus(id string) *runtimeapi.PodSandboxStatus {
	n.t.Helper()
	r, err := n.rt.PodSandboxStatus(n.ctx(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		n.t.Fatal(err)
	}
	return r.Status
}

func (n *node) stopPod(id string) {
	n.t.Helper()
	if _, err := n.rt.StopPodSandbox(n.ctx(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) removePod(id string) {
	n.t.Helper()
	if _, err := n.rt.RemovePodSandbox(n.ctx(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) pull(ref string) string {
	n.t.Helper()
	r, err := n.images.PullImage(n.ctx(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
	if err != nil {
		n.t.Fatalf("pull %s: %v", ref, err)
	}
	return r.ImageRef
}

// containerConfig runs a shell script.
func containerConfig(name, script string, change ...func(*runtimeapi.ContainerConfig)) *runtimeapi.ContainerConfig {
	cfg := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: name},
		Image:    &runtimeapi.ImageSpec{Image: busybox},
		Command:  []string{"sh", "-c", script},
		LogPath:  name + ".log",
		Labels:   map[string]string{"container": name},
		Linux:    &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}},
	}
	for _, f := range change {
		f(cfg)
	}
	return cfg
}

func (n *node) create(pod string, cfg *runtimeapi.ContainerConfig) (string, error) {
	r, err := n.rt.CreateContainer(n.ctx(), &runtimeapi.CreateContainerRequest{
		PodSandboxId: pod, Config: cfg, SandboxConfig: &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{}},
	})
	return r.GetContainerId(), err
}

// run creates and starts a container.
func (n *node) run(pod string, cfg *runtimeapi.ContainerConfig) string {
	n.t.Helper()
	id, err := n.create(pod, cfg)
	if err != nil {
		n.t.Fatalf("create %s: %v", cfg.Metadata.Name, err)
	}
	if _, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		n.t.Fatalf("start %s: %v", cfg.Metadata.Name, err)
	}
	return id
}

func (n *node) status(id string) *runtimeapi.ContainerStatus {
	n.t.Helper()
	r, err := n.rt.ContainerStatus(n.ctx(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		n.t.Fatal(err)
	}
	return r.Status
}

// wait returns the status of a container that has exited.
func (n *node) wait(id string) *runtimeapi.ContainerStatus {
	n.t.Helper()
	var st *runtimeapi.ContainerStatus
	eventually(n.t, 30*time.Second, "the container exits", func() error {
		if st = n.status(id); st.State != runtimeapi.ContainerState_CONTAINER_EXITED {
			return fmt.Errorf("it is %s", st.State)
		}
		return nil
	})
	return st
}

// exec runs a shell script in a container and returns what it printed.
func (n *node) exec(id, script string) (string, int32) {
	n.t.Helper()
	r, err := n.rt.ExecSync(n.ctx(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", script}, Timeout: 30})
	if err != nil {
		n.t.Fatalf("exec %q: %v", script, err)
	}
	return string(r.Stdout) + string(r.Stderr), r.ExitCode
}

// output runs a script in a container of its own, in the pod, to its end and
// returns what it printed and how it ended.
func (n *node) output(pod, name, script string, change ...func(*runtimeapi.ContainerConfig)) (string, *runtimeapi.ContainerStatus) {
	n.t.Helper()
	st := n.wait(n.run(pod, containerConfig(name, script, change...)))
	return n.logged(st.LogPath, "stdout", "stderr"), st
}

var logLine = regexp.MustCompile(`^(\S+) (stdout|stderr) ([FP]) (.*)$`)

// logged is the content of a CRI log file, of the given streams.
func (n *node) logged(path string, streams ...string) string {
	n.t.Helper()
	b := n.logFile(path)
	var out strings.Builder
	for _, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		m := logLine.FindStringSubmatch(line)
		if m == nil {
			if line != "" {
				n.t.Errorf("%s: line %q is not of the CRI format", filepath.Base(path), line)
			}
			continue
		}
		if _, err := time.Parse(time.RFC3339Nano, m[1]); err != nil {
			n.t.Errorf("%s: time: %v", filepath.Base(path), err)
		}
		for _, s := range streams {
			if s == m[2] {
				out.WriteString(m[4])
				if m[3] == "F" {
					out.WriteByte('\n')
				}
			}
		}
	}
	return out.String()
}

// logFile reads a log that ends with a whole line: a write that is under way may
// be seen in part, for as long as it takes.
func (n *node) logFile(path string) (b []byte) {
	n.t.Helper()
	eventually(n.t, 10*time.Second, "the log ends with a whole line", func() (err error) {
		if b, err = os.ReadFile(path); err != nil {
			n.t.Fatal(err)
		}
		if len(b) > 0 && b[len(b)-1] != '\n' {
			return fmt.Errorf("it ends with %.200q", b[bytes.LastIndexByte(b, '\n')+1:])
		}
		return nil
	})
	return b
}

// wantCode fails unless err has the gRPC code and names each of the words.
func wantCode(t *testing.T, what string, err error, code codes.Code, words ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("%s: got %v, want %s", what, err, code)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q does not name %q", what, err, w)
		}
	}
}
