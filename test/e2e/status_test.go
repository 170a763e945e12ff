package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What the kubelet and crictl read in a status.
func TestContainerStatus(t *testing.T) {
	n := newNode(t)
	image := n.pull(busybox)
	pod := n.pod(n.podConfig("status"))
	cfg := containerConfig("c", "exit 3", func(c *runtimeapi.ContainerConfig) {
		c.Metadata.Attempt = 4
		c.Annotations = map[string]string{"a/b": "c\nd"}
		c.Image.UserSpecifiedImage = "busybox"
		c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/data/", HostPath: n.path("data"), Readonly: true}}
		c.Linux.Resources = &runtimeapi.LinuxContainerResources{CpuShares: 512, OomScoreAdj: 900}
		c.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 1000}
		c.Linux.SecurityContext.SupplementalGroups = []int64{77}
		c.StopSignal = runtimeapi.Signal_SIGNAL_SIGQUIT
	})
	before := time.Now().UnixNano()
	id, err := n.create(pod, cfg)
	if err != nil {
		t.Fatal(err)
	}
	created := n.status(id)
	if created.State != runtimeapi.ContainerState_CONTAINER_CREATED || created.StartedAt != 0 || created.FinishedAt != 0 || created.Reason != "" {
		t.Errorf("created: %v", created)
	}
	if created.CreatedAt < before || created.CreatedAt > time.Now().UnixNano() {
		t.Errorf("created at %d", created.CreatedAt)
	}
	if _, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	st := n.wait(id)
	if !(before < st.CreatedAt && st.CreatedAt < st.StartedAt && st.StartedAt < st.FinishedAt && st.FinishedAt < time.Now().UnixNano()) {
		t.Errorf("times: %d %d %d", st.CreatedAt, st.StartedAt, st.FinishedAt)
	}
	for what, ok := range map[string]bool{
		"metadata":    proto.Equal(st.Metadata, cfg.Metadata),
		"labels":      len(st.Labels) == 1 && st.Labels["container"] == "c",
		"annotations": len(st.Annotations) == 1 && st.Annotations["a/b"] == "c\nd",
		"image":       proto.Equal(st.Image, cfg.Image),
		"image_id":    st.ImageId == image,
		"image_ref":   strings.HasPrefix(st.ImageRef, "registry.test/busybox@sha256:"),
		"log_path":    st.LogPath == n.path("log/status/c.log"),
		"mounts":      len(st.Mounts) == 1 && proto.Equal(st.Mounts[0], cfg.Mounts[0]),
		"resources":   proto.Equal(st.Resources.GetLinux(), cfg.Linux.Resources),
		"stop_signal": st.StopSignal == runtimeapi.Signal_SIGNAL_SIGQUIT,
		"exit_code":   st.ExitCode == 3 && st.Reason == "Error",
		"user":        st.User.GetLinux().GetUid() == 1000 && st.User.GetLinux().GetGid() == 1000,
	} {
		if !ok {
			t.Errorf("%s is not right: %v", what, st)
		}
	}
	groups := map[int64]bool{}
	for _, g := range st.User.GetLinux().GetSupplementalGroups() {
		groups[g] = true
	}
	if !groups[77] || !groups[50] || !groups[60] { // app is in staff and extra
		t.Errorf("groups: %v", st.User)
	}

	list, err := n.rt.ListContainers(n.ctx(), nil)
	if err != nil || len(list.Containers) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	c := list.Containers[0]
	if c.Id != id || c.PodSandboxId != pod || c.ImageId != image || c.ImageRef == "" || !proto.Equal(c.Image, cfg.Image) ||
		c.CreatedAt != st.CreatedAt || c.State != st.State || c.Annotations["a/b"] != "c\nd" || !proto.Equal(c.Metadata, cfg.Metadata) {
		t.Errorf("in the list: %v", c)
	}

	plain, err := n.rt.ContainerStatus(n.ctx(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil || len(plain.Info) != 0 {
		t.Errorf("info without being asked: %v, %v", plain.GetInfo(), err)
	}
	verbose, err := n.rt.ContainerStatus(n.ctx(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		SandboxID   string
		RuntimeSpec struct{ Process struct{ Args []string } }
	}
	if err := json.Unmarshal([]byte(verbose.Info["info"]), &info); err != nil || info.SandboxID != pod || strings.Join(info.RuntimeSpec.Process.Args, " ") != "sh -c exit 3" {
		t.Errorf("verbose: %v, %v", verbose.Info, err)
	}
}

// The kubelet asks for an image by its id and shows people what the status calls it.
func TestImageOfTheStatus(t *testing.T) {
	n := newNode(t)
	id := n.pull(busybox)
	if other := n.pull("mirrored.test/busybox:1"); other != id {
		t.Fatalf("two images: %s, %s", id, other)
	}
	pod := n.pod(n.podConfig("image", hostNetwork))
	for name, tc := range map[string]struct{ image, user, want string }{
		"by name":              {busybox, "", busybox},
		"by id":                {id, busybox, busybox},
		"by id, another name":  {id, "mirrored.test/busybox:1", "mirrored.test/busybox:1"},
		"by part of the id":    {strings.TrimPrefix(id, "sha256:")[:12], busybox, busybox},
		"by id, no name known": {id, "registry.test/elsewhere:1", "mirrored.test/busybox:1"}, // the first in order
		"by id alone":          {id, "", "mirrored.test/busybox:1"},
	} {
		asked := &runtimeapi.ImageSpec{Image: tc.image, UserSpecifiedImage: tc.user, Annotations: map[string]string{"a": "b"}}
		c, err := n.create(pod, containerConfig(strings.ReplaceAll(name, " ", "-"), "true", func(c *runtimeapi.ContainerConfig) { c.Image = asked }))
		if err != nil {
			t.Fatal(err)
		}
		want := proto.CloneOf(asked)
		want.Image = tc.want
		if st := n.status(c); !proto.Equal(st.Image, want) || st.ImageId != id {
			t.Errorf("%s: %v, want %v", name, st.Image, want)
		}
	}
}

func TestRuntimeReady(t *testing.T) {
	n := prepareNode(t)
	program, err := os.ReadFile(filepath.Join(programs, "berth-monitor"))
	if err != nil {
		t.Fatal(err)
	}
	at := n.write("bin/berth-monitor", string(program))
	if err := os.Chmod(at, 0o755); err != nil {
		t.Fatal(err)
	}
	n.config = fmt.Sprintf("[helpers]\nmonitor = %q\n", at)
	n.configure()
	n.start()
	wait := func(ready bool, reason string) {
		t.Helper()
		eventually(t, 20*time.Second, "RuntimeReady is "+fmt.Sprint(ready), func() error {
			r, err := n.rt.Status(n.ctx(), &runtimeapi.StatusRequest{})
			if err != nil {
				return err
			}
			if c := r.Status.Conditions[0]; c.Type != "RuntimeReady" || c.Status != ready || c.Reason != reason {
				return fmt.Errorf("%v", c)
			}
			return nil
		})
	}
	wait(true, "")
	if err := os.Rename(at, at+".away"); err != nil {
		t.Fatal(err)
	}
	killPid(t, n.monitor())
	wait(false, "MonitorNotReady")
	if err := os.Rename(at+".away", at); err != nil {
		t.Fatal(err)
	}
	wait(true, "")
	n.started[n.monitor()] = true
}

func TestPodStatus(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	cfg := n.podConfig("status", func(c *runtimeapi.PodSandboxConfig) { c.Metadata.Attempt = 2 })
	before := time.Now().UnixNano()
	pod := n.pod(cfg)
	c := n.run(pod, containerConfig("c", "sleep 1000"))
	r, err := n.rt.PodSandboxStatus(n.ctx(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	st := r.Status
	if st.Id != pod || !proto.Equal(st.Metadata, cfg.Metadata) || st.CreatedAt < before || st.CreatedAt > time.Now().UnixNano() ||
		st.RuntimeHandler != "" || !proto.Equal(st.Linux.Namespaces.Options, cfg.Linux.SecurityContext.NamespaceOptions) {
		t.Errorf("status: %v", st)
	}
	if len(r.ContainersStatuses) != 1 || r.ContainersStatuses[0].Id != c || r.Timestamp != 0 {
		t.Errorf("containers of it at %d: %v", r.Timestamp, r.ContainersStatuses)
	}
	if !json.Valid([]byte(r.Info["info"])) || !strings.Contains(r.Info["info"], pod) {
		t.Errorf("verbose: %v", r.Info)
	}
	_, err = n.rt.RunPodSandbox(n.ctx(), &runtimeapi.RunPodSandboxRequest{Config: n.podConfig("handled"), RuntimeHandler: "no-such"})
	wantInvalid(t, "unknown handler", err, "no-such")
	named, err := n.rt.RunPodSandbox(n.ctx(), &runtimeapi.RunPodSandboxRequest{Config: n.podConfig("handled"), RuntimeHandler: "berth"})
	if err != nil {
		t.Fatal(err)
	}
	if st := n.podStatus(named.PodSandboxId); st.RuntimeHandler != "berth" {
		t.Errorf("handler %q", st.RuntimeHandler)
	}
}

func TestNodeStatus(t *testing.T) {
	n := newNode(t)
	for _, verbose := range []bool{false, true} {
		r, err := n.rt.Status(n.ctx(), &runtimeapi.StatusRequest{Verbose: verbose})
		if err != nil {
			t.Fatal(err)
		}
		conditions := map[string]bool{}
		for _, c := range r.Status.Conditions {
			conditions[c.Type] = c.Status
		}
		if !conditions["RuntimeReady"] || !conditions["NetworkReady"] || !r.Features.SupplementalGroupsPolicy {
			t.Errorf("status: %v", r)
		}
		handlers := map[string]bool{}
		for _, h := range r.RuntimeHandlers {
			handlers[h.Name] = h.Features.RecursiveReadOnlyMounts
		}
		if !handlers[""] || !handlers["berth"] {
			t.Errorf("handlers: %v", r.RuntimeHandlers)
		}
		if verbose != (len(r.Info) > 0) {
			t.Errorf("verbose %t: %v", verbose, r.Info)
		}
		for k, v := range r.Info {
			if !json.Valid([]byte(v)) {
				t.Errorf("info %s is no JSON: %s", k, v)
			}
		}
	}
	v, err := n.rt.Version(n.ctx(), &runtimeapi.VersionRequest{Version: "v1"})
	if err != nil || v.RuntimeName != "berth" || v.RuntimeApiVersion != "v1" || v.Version == "" || v.RuntimeVersion == "" {
		t.Errorf("version: %v, %v", v, err)
	}
	c, err := n.rt.RuntimeConfig(n.ctx(), &runtimeapi.RuntimeConfigRequest{})
	if err != nil || c.Linux.CgroupDriver != runtimeapi.CgroupDriver_CGROUPFS {
		t.Errorf("config: %v, %v", c, err)
	}
	for cidr, ok := range map[string]bool{"10.1.0.0/16": true, "10.1.0.0/16,fd00::/64": true, "": true, "10.1.0.0": false, "nonsense": false} {
		_, err := n.rt.UpdateRuntimeConfig(n.ctx(), &runtimeapi.UpdateRuntimeConfigRequest{
			RuntimeConfig: &runtimeapi.RuntimeConfig{NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: cidr}}})
		if ok && err != nil {
			t.Errorf("pod CIDR %q: %v", cidr, err)
		} else if !ok {
			wantInvalid(t, "pod CIDR "+cidr, err, "pod_cidr", cidr)
		}
	}
}
