package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	modePod       = runtimeapi.NamespaceMode_POD
	modeContainer = runtimeapi.NamespaceMode_CONTAINER
	modeNode      = runtimeapi.NamespaceMode_NODE
	modeTarget    = runtimeapi.NamespaceMode_TARGET
)

// podNamespaces sets a pod's namespaces, inNamespaces a container's.
func podNamespaces(o *runtimeapi.NamespaceOption) func(*runtimeapi.PodSandboxConfig) {
	return func(c *runtimeapi.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions = o }
}

func inNamespaces(o *runtimeapi.NamespaceOption) func(*runtimeapi.ContainerConfig) {
	return func(c *runtimeapi.ContainerConfig) { c.Linux.SecurityContext.NamespaceOptions = o }
}

// Which namespaces containers of a pod share with each other and with the host.
func TestNamespaces(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	kinds := []string{"net", "ipc", "uts", "pid", "mnt", "user"}
	host := map[string]string{}
	for _, k := range kinds {
		host[k], _ = os.Readlink("/proc/self/ns/" + k)
	}
	for name, tc := range map[string]struct {
		options *runtimeapi.NamespaceOption
		own     string // by each container
		pod     string // shared by the pod's containers
		host    string // shared with the host
	}{
		"each its PIDs":                   {&runtimeapi.NamespaceOption{Pid: modeContainer}, "pid mnt", "net ipc uts", "user"},
		"the pod's PIDs":                  {&runtimeapi.NamespaceOption{Pid: modePod}, "mnt", "net ipc uts pid", "user"},
		"host network":                    {&runtimeapi.NamespaceOption{Pid: modeContainer, Network: modeNode}, "pid mnt", "ipc", "net uts user"},
		"host IPC":                        {&runtimeapi.NamespaceOption{Pid: modeContainer, Ipc: modeNode}, "pid mnt", "net uts", "ipc user"},
		"host PIDs":                       {&runtimeapi.NamespaceOption{Pid: modeNode}, "mnt", "net ipc uts", "pid user"},
		"all the host's":                  {&runtimeapi.NamespaceOption{Pid: modeNode, Ipc: modeNode, Network: modeNode}, "mnt", "", "net ipc uts pid user"},
		"host network and the pod's PIDs": {&runtimeapi.NamespaceOption{Pid: modePod, Network: modeNode}, "mnt", "ipc pid", "net uts user"},
	} {
		n.sub(name, func(n *node) {
			pod := n.pod(n.podConfig(strings.ReplaceAll(name, " ", "-"), podNamespaces(tc.options)))
			// Both live while they are looked at: numbers of namespaces are used again.
			var ids [2]string
			for i := range ids {
				ids[i] = n.run(pod, containerConfig(fmt.Sprint("c", i), "sleep 1000; :", inNamespaces(tc.options)))
			}
			var seen [2]map[string]string
			for i, id := range ids {
				out, _ := n.exec(id, "for k in "+strings.Join(kinds, " ")+"; do readlink /proc/self/ns/$k; done")
				seen[i] = map[string]string{}
				for j, link := range strings.Fields(out) {
					seen[i][kinds[j]] = link
				}
			}
			for _, k := range kinds {
				got := "own"
				switch {
				case seen[0][k] == host[k] && seen[1][k] == host[k]:
					got = "host"
				case seen[0][k] == seen[1][k]:
					got = "pod"
				}
				if want := map[string]string{"own": tc.own, "pod": tc.pod, "host": tc.host}[got]; !strings.Contains(" "+want+" ", " "+k+" ") {
					t.Errorf("%s namespace is %s's: %s %s, host %s", k, got, seen[0][k], seen[1][k], host[k])
				}
			}
		})
	}
}

func TestSharedPIDs(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	shared := &runtimeapi.NamespaceOption{Pid: modePod}
	pod := n.pod(n.podConfig("shared", podNamespaces(shared)))
	one := n.run(pod, containerConfig("one", "sleep 1111; :", inNamespaces(shared)))
	two := n.run(pod, containerConfig("two", "sleep 2222; :", inNamespaces(shared)))
	sees := func(id, word string) bool { return n.left(id, word) != "0" }
	check := func(when string) {
		t.Helper()
		if !sees(one, "sleep 2222") || !sees(two, "sleep 1111") {
			out, _ := n.exec(one, "ps -o pid,args")
			t.Errorf("%s the containers do not see each other:\n%s", when, out)
		}
		if out, _ := n.exec(one, "cat /proc/1/comm"); out != "berth-reaper\n" {
			t.Errorf("%s PID 1 is %q", when, out)
		}
	}
	check("at first")
	// Orphans are reaped by the pod's PID 1.
	n.exec(one, "for i in 1 2 3 4 5 6 7 8 9 10; do (sh -c 'sleep 0.05 & exit' &) ; done; sleep 0.3")
	eventually(t, 10*time.Second, "zombies are reaped", func() error {
		if out, _ := n.exec(one, "ps -o stat,args | grep -c '^[Z]'"); strings.TrimSpace(out) != "0" {
			return fmt.Errorf("%s zombies", out)
		}
		return nil
	})
	n.restart()
	check("after a restart")
	n.killMonitor()
	check("under a new monitor")
	// A container that dies takes along what it left, and nothing of its neighbour's.
	n.exec(two, "setsid sh -c 'trap \"\" TERM HUP; sleep 3333; :' >/dev/null 2>&1 &")
	n.stop(two, 0)
	eventually(t, 10*time.Second, "what the container left is gone", func() error {
		if sees(one, "sleep 3333") || sees(one, "sleep 2222") {
			return fmt.Errorf("still there")
		}
		return nil
	})
	if st := n.status(one); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("its neighbour: %v", st)
	}
	// One that ends by itself leaves nothing either.
	leaves := n.run(pod, containerConfig("leaves", "setsid sleep 4444 >/dev/null 2>&1 & sleep 0.2; exit 3", inNamespaces(shared)))
	if st := n.wait(leaves); st.ExitCode != 3 {
		t.Errorf("ended: %v", st)
	}
	eventually(t, 10*time.Second, "what the container left is gone", func() error {
		if sees(one, "sleep 4444") {
			return fmt.Errorf("still there")
		}
		return nil
	})
	// From within SIGKILL does nothing to PID 1.
	n.exec(one, "kill -9 1")
	if out, _ := n.exec(one, "cat /proc/1/comm"); out != "berth-reaper\n" {
		t.Errorf("after SIGKILL PID 1 is %q", out)
	}
}

// Without its PID 1 a pod that shares PIDs is at its end, and says so.
func TestReaperDies(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	shared := &runtimeapi.NamespaceOption{Pid: modePod}
	pod := n.pod(n.podConfig("headless", podNamespaces(shared)))
	id := n.run(pod, containerConfig("c", "sleep 1000; :", inNamespaces(shared)))
	host := 0 // its PID
	for _, p := range n.processes() {
		if strings.Contains(p, "berth-reaper") {
			fmt.Sscan(p, &host)
		}
	}
	if host <= 1 {
		t.Fatalf("no PID 1 among %v", n.processes())
	}
	killPid(t, host)
	if st := n.wait(id); st.ExitCode != 137 {
		t.Errorf("its container: %v", st)
	}
	eventually(t, 10*time.Second, "the pod is not ready", func() error {
		if st := n.podStatus(pod); st.State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
			return fmt.Errorf("%s", st.State)
		}
		return nil
	})
	_, err := n.create(pod, containerConfig("late", "true", inNamespaces(shared)))
	wantCode(t, "create in it", err, codes.FailedPrecondition)
}

func TestTargetPIDs(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod, other := n.pod(n.podConfig("target", hostNetwork)), n.pod(n.podConfig("other", hostNetwork))
	app := n.run(pod, containerConfig("app", "sleep 1234; :"))
	target := func(id string) func(*runtimeapi.ContainerConfig) {
		return inNamespaces(&runtimeapi.NamespaceOption{Pid: modeTarget, TargetId: id})
	}
	debug := n.run(pod, containerConfig("debug", "sleep 5678; :", target(app)))
	if n.left(debug, "sleep 1234") == "0" || n.left(app, "sleep 5678") == "0" {
		t.Error("debugger and target do not see each other")
	}
	if out, _ := n.exec(debug, "cat /proc/1/root/proc/1/comm; readlink /proc/self/ns/pid"); !strings.HasPrefix(out, "sh\n") {
		t.Errorf("the target's files through /proc: %q", out)
	}
	// The end of the debugger is not that of the target.
	n.stop(debug, 0)
	if st := n.status(app); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the target: %v", st)
	}
	waiting, err := n.create(pod, containerConfig("waiting", "true", target(app[:12])))
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.create(other, containerConfig("stranger", "true", target(app)))
	wantInvalid(t, "of another pod", err, "another pod")
	_, err = n.create(pod, containerConfig("nobody", "true", target(strings.Repeat("0", 64))))
	wantCode(t, "that is not there", err, codes.FailedPrecondition, "target")
	n.stop(app, 0)
	_, err = n.create(pod, containerConfig("late", "true", target(app)))
	wantCode(t, "that has ended", err, codes.FailedPrecondition, "exited")
	_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: waiting})
	wantCode(t, "that ended between create and start", err, codes.FailedPrecondition, "target")
}

func TestSysctls(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	read := "cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range net/ipv4/ip_local_port_range kernel/shm_rmid_forced kernel/msgmax fs/mqueue/msg_max kernel/domainname"
	for name, tc := range map[string]struct {
		sysctls map[string]string
		want    []string
	}{
		"defaults": {nil, []string{"0", "0\t2147483647"}},
		"set": {map[string]string{
			"net.ipv4.ip_unprivileged_port_start": "1000", "net.ipv4.ping_group_range": "5 6", "net/ipv4/ip_local_port_range": "2000 3000",
			"kernel.shm_rmid_forced": "1", "kernel.msgmax": "1234", "fs.mqueue.msg_max": "12", "kernel.domainname": "example.test",
		}, []string{"1000", "5\t6", "2000\t3000", "1", "1234", "12", "example.test"}},
	} {
		pod := n.pod(n.podConfig(name, func(c *runtimeapi.PodSandboxConfig) { c.Linux.Sysctls = tc.sysctls }))
		out, _ := n.output(pod, "c", read)
		got := strings.Split(out, "\n")
		if strings.Join(got[:len(tc.want)], "|") != strings.Join(tc.want, "|") {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	if b, _ := os.ReadFile("/proc/sys/kernel/msgmax"); strings.TrimSpace(string(b)) == "1234" {
		t.Error("the host's sysctl was changed")
	}
}
