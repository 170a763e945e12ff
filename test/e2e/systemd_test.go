package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// underSystemd skips where systemd does not run the host, or another driver is
// tested.
func underSystemd(t *testing.T) *node {
	if !exists("/run/systemd/system") || !exists("/sys/fs/cgroup/cgroup.controllers") {
		t.Skip("systemd does not run this host, or not on cgroup v2: see test/vm")
	}
	if driver != "systemd" {
		t.Skip("the tests run with the cgroupfs driver")
	}
	n := newNode(t)
	n.pull(busybox)
	return n
}

func systemctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("systemctl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemctl %v: %v, %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// unit is the scope of a pod.
func unit(pod string) string { return "berth-" + pod + ".scope" }

// Limits, device rules and processes stay where they are when systemd reads its
// units anew or replaces itself.
func TestSystemdReload(t *testing.T) {
	n := underSystemd(t)
	pod := n.pod(n.podConfig("stays"))
	id := n.run(pod, containerConfig("c", "sleep 1000; :", limited(&runtimeapi.LinuxContainerResources{
		CpuShares: 512, CpuQuota: 50000, CpuPeriod: 100000, MemoryLimitInBytes: 64 << 20, CpusetCpus: "0",
		Unified: map[string]string{"memory.oom.group": "1", "memory.high": "50331648"},
	})))
	if got := systemctl(t, "show", "-p", "Delegate,ActiveState,SubState,Slice", unit(pod)); got != "Slice="+filepath.Base(n.cgroup)+"\nDelegate=yes\nActiveState=active\nSubState=running" {
		t.Errorf("the scope: %q", got)
	}
	state := func() string {
		var b strings.Builder
		for _, f := range []string{"cpu.weight", "cpu.max", "memory.max", "memory.high", "memory.oom.group", "cpuset.cpus", "pids.max", "cgroup.controllers", "cgroup.procs"} {
			fmt.Fprintf(&b, "%s %s\n", f, n.cgroupFile(id, f, f))
		}
		b.WriteString(n.must(id, "head -c 1 /dev/zero | wc -c; (: < /dev/kmsg) 2>&1; mknod /tmp/kmsg c 1 11; head -c 1 /tmp/kmsg 2>&1 | wc -c; rm /tmp/kmsg"))
		return b.String()
	}
	before := state()
	for _, how := range []string{"daemon-reload", "daemon-reexec"} {
		systemctl(t, how)
		// Another unit in the slice makes systemd look at the slice's controllers.
		other := n.pod(n.podConfig(how))
		n.run(other, containerConfig("c", "sleep 1000; :"))
		systemctl(t, "set-property", "--runtime", filepath.Base(n.cgroup), "MemoryMax=2G", "TasksMax=4000")
		if after := state(); after != before {
			t.Errorf("after %s:\n%s\nbefore:\n%s", how, after, before)
		}
	}
	shares := uint64(59)
	if err := n.update(id, &resources{CpuShares: 1024}); err != nil {
		t.Fatal(err)
	}
	systemctl(t, "daemon-reload")
	if got := n.shares(id); got == fmt.Sprint(shares) {
		t.Errorf("an update was undone: %s", got)
	}
}

// The kernel's word on who was killed for memory is there when the last process
// has ended, each time (containerd#8180).
func TestSystemdOOM(t *testing.T) {
	n := underSystemd(t)
	pod := n.pod(n.podConfig("oom"))
	for i := range 10 {
		id := n.run(pod, containerConfig(fmt.Sprint("greedy-", i), "exec tail /dev/zero", limited(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 20 << 20})))
		if st := n.wait(id); st.Reason != "OOMKilled" || st.ExitCode != 137 {
			t.Errorf("%d: %s, code %d", i, st.Reason, st.ExitCode)
		}
	}
}

// A scope is there from the pod's first container to its end, through restarts of
// daemon and monitor, and no unit is left.
func TestSystemdScope(t *testing.T) {
	n := underSystemd(t)
	active := func(pod string) string {
		out, _ := exec.Command("systemctl", "is-active", unit(pod)).Output()
		return strings.TrimSpace(string(out))
	}
	shared := podNamespaces(&runtimeapi.NamespaceOption{})
	for name, change := range map[string]func(*runtimeapi.PodSandboxConfig){
		"ordinary": func(*runtimeapi.PodSandboxConfig) {}, "one-pid-namespace": shared,
	} {
		pod := n.pod(n.podConfig(name, change))
		id := n.run(pod, containerConfig("first", "true"))
		n.wait(id)
		if got := active(pod); got != "active" {
			t.Errorf("%s: without a container that runs: %s", name, got)
		}
		n.restart()
		id = n.run(pod, containerConfig("second", "sleep 1000; :"))
		n.killMonitor()
		n.stop(id, 0)
		n.run(pod, containerConfig("third", "sleep 1000; :"))
		n.stopPod(pod)
		eventually(t, 10*time.Second, "the scope is gone", func() error {
			if got := active(pod); got == "active" {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
		n.removePod(pod)
		if out := systemctl(t, "list-units", "--all", "--no-legend", unit(pod)); out != "" {
			t.Errorf("%s: left: %s", name, out)
		}
	}
}

// The holder that somebody has killed, as the kubelet does with processes that it
// finds in a pod's cgroup, is missed by nobody.
func TestSystemdHolderIsKilled(t *testing.T) {
	n := underSystemd(t)
	pod := n.pod(n.podConfig("p"))
	n.wait(n.run(pod, containerConfig("first", "true")))
	kill := filepath.Join("/sys/fs/cgroup", n.cgroup, unit(pod), "hold/cgroup.kill")
	if err := os.WriteFile(kill, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the scope is gone", func() error {
		if exists(filepath.Dir(kill)) {
			return fmt.Errorf("there")
		}
		return nil
	})
	id := n.run(pod, containerConfig("second", "sleep 1000; :"))
	if out, code := n.exec(id, "echo ok"); out != "ok\n" || code != 0 {
		t.Errorf("%q, code %d", out, code)
	}
}

func TestSystemdDriverIsTold(t *testing.T) {
	n := underSystemd(t)
	r, err := n.rt.RuntimeConfig(n.ctx(), &runtimeapi.RuntimeConfigRequest{})
	if err != nil || r.Linux.CgroupDriver != runtimeapi.CgroupDriver_SYSTEMD {
		t.Errorf("%v %v", r, err)
	}
	_, err = n.rt.RunPodSandbox(n.ctx(), &runtimeapi.RunPodSandboxRequest{Config: n.podConfig("p", func(c *runtimeapi.PodSandboxConfig) {
		c.Linux.CgroupParent = "/kubepods/burstable/pod1"
	})})
	wantCode(t, "a path as the parent", err, codes.InvalidArgument, "cgroup_parent", "systemd")
	// Without a setting the daemon finds out by itself.
	out, err := exec.Command(filepath.Join(programs, "berth"), "doctor").CombinedOutput()
	if !bytes.Contains(out, []byte("systemd")) {
		t.Errorf("doctor: %s %v", out, err)
	}
}
