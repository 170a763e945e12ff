package e2e

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// From an image in a registry to a running, logged, stopped pod.
func TestWholeWay(t *testing.T) {
	n := newNode(t)
	image := n.pull(busybox)
	pod := n.pod(n.podConfig("walk"))
	st := n.podStatus(pod)
	if st.State != runtimeapi.PodSandboxState_SANDBOX_READY || st.Network.Ip == "" || len(st.Network.AdditionalIps) != 1 {
		t.Errorf("pod: %v", st)
	}
	if st.Annotations["note"] != "kept ünchanged" || len(st.Annotations) != 1 || len(st.Labels) != 1 {
		t.Errorf("labels and annotations are not the client's own: %v %v", st.Labels, st.Annotations)
	}

	id := n.run(pod, containerConfig("c", "echo out; echo err >&2; sleep 1000; :"))
	c := n.status(id)
	if c.State != runtimeapi.ContainerState_CONTAINER_RUNNING || c.StartedAt < c.CreatedAt || c.FinishedAt != 0 || c.ImageId != image {
		t.Errorf("running: %v", c)
	}
	for script, want := range map[string]string{
		"hostname":                 "walk\n",
		"id -u":                    "0\n",
		"cat /proc/1/comm":         "sh\n",
		"cat /etc/hostname":        "walk\n",
		"grep walk /etc/hosts":     st.Network.Ip + "\twalk\n" + st.Network.AdditionalIps[0].Ip + "\twalk\n",
		"readlink /proc/self/cwd":  "/\n",
		"ls /proc/self/fd | wc -l": "4\n", // 0, 1, 2 and the directory itself
	} {
		if got, code := n.exec(id, script); got != want || code != 0 {
			t.Errorf("%s: %q, code %d; want %q", script, got, code, want)
		}
	}
	if got, code := n.exec(id, "echo partial; exit 7"); got != "partial\n" || code != 7 {
		t.Errorf("failing command: %q, %d", got, code)
	}
	if got := n.logged(c.LogPath, "stdout"); got != "out\n" {
		t.Errorf("stdout in the log: %q", got)
	}
	if got := n.logged(c.LogPath, "stderr"); got != "err\n" {
		t.Errorf("stderr in the log: %q", got)
	}

	if _, err := n.rt.StopContainer(n.ctx(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 0}); err != nil {
		t.Fatal(err)
	}
	c = n.status(id)
	if c.State != runtimeapi.ContainerState_CONTAINER_EXITED || c.ExitCode != 137 || c.Reason != "Error" || c.FinishedAt < c.StartedAt {
		t.Errorf("stopped: %v", c)
	}
	_, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
	wantCode(t, "start of an exited container", err, codes.FailedPrecondition, "exited")

	n.stopPod(pod)
	if st := n.podStatus(pod); st.State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY || st.Network.Ip == "" {
		t.Errorf("stopped pod: %v", st)
	}
	_, err = n.create(pod, containerConfig("late", "true"))
	wantCode(t, "create in a stopped pod", err, codes.FailedPrecondition, "notready")
	n.stopPod(pod)
	n.removePod(pod)
	n.removePod(pod)
	_, err = n.rt.PodSandboxStatus(n.ctx(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod})
	wantCode(t, "status of a removed pod", err, codes.NotFound)
	_, err = n.rt.ContainerStatus(n.ctx(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	wantCode(t, "status of a removed container", err, codes.NotFound)
}

func TestExits(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("exits"))
	for name, tc := range map[string]struct {
		script string
		code   int32
		reason string
	}{
		"well":     {"exit 0", 0, "Completed"},
		"failure":  {"exit 3", 3, "Error"},
		"long-log": {"i=0; while [ $i -lt 2000 ]; do echo line-$i; i=$((i+1)); done", 0, "Completed"},
	} {
		out, st := n.output(pod, name, tc.script)
		if st.ExitCode != tc.code || st.Reason != tc.reason {
			t.Errorf("%s: exit %d, %s", name, st.ExitCode, st.Reason)
		}
		if name == "long-log" && strings.Count(out, "\n") != 2000 {
			t.Errorf("%d lines of 2000 logged before the exit was told", strings.Count(out, "\n"))
		}
	}
}

func TestStartErrors(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("errors"))
	for name, tc := range map[string]struct {
		command []string
		code    codes.Code // never NotFound: that would mean the container
		words   []string
	}{
		"no such program": {[]string{"no-such-program"}, codes.FailedPrecondition, []string{"no-such-program", "not found"}},
		"no such path":    {[]string{"/no/such/path"}, codes.FailedPrecondition, []string{"/no/such/path", "no such file"}},
		"not executable":  {[]string{"/etc/passwd"}, codes.PermissionDenied, []string{"/etc/passwd", "permission denied"}},
		"a directory":     {[]string{"/etc"}, own(codes.InvalidArgument, codes.PermissionDenied), []string{"/etc", own("is a directory", "permission denied")}},
	} {
		cfg := containerConfig(strings.ReplaceAll(name, " ", "-"), "")
		cfg.Command = tc.command
		id, err := n.create(pod, cfg)
		if err != nil {
			t.Errorf("%s: create: %v", name, err)
			continue
		}
		_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
		wantCode(t, name, err, tc.code, tc.words...)
		st := n.status(id)
		if st.State != runtimeapi.ContainerState_CONTAINER_EXITED || st.ExitCode != 128 || st.Reason != "StartError" || st.Message == "" || st.FinishedAt == 0 {
			t.Errorf("%s: %v", name, st)
		}
	}
}
