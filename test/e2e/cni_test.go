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

// shellPlugin is a CNI plugin that tells what it was asked, and fails while
// there is a file fail-COMMAND in the node's directory.
const shellPlugin = `#!/bin/sh
conf=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME netns=${CNI_NETNS:+set}" >>%[1]s/calls
case $conf in *prevResult*) echo "$CNI_COMMAND prevResult" >>%[1]s/calls;; esac
if [ -e %[1]s/slow-$CNI_COMMAND ]; then sleep 0.5; fi
if [ -e %[1]s/fail-$CNI_COMMAND ]; then
	echo '{"cniVersion":"1.0.0","code":11,"msg":"not now","details":"the backend is down"}'
	exit 1
fi
case $CNI_COMMAND in
ADD)
	case $conf in
	*prevResult*) echo "$conf" | sed 's/.*"prevResult":\({.*}\),"type.*/\1/' ;;
	*) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"198.51.100.7/24","interface":0}]}' ;;
	esac
	;;
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}' ;;
esac
exit 0
`

const shellNetwork = `{"cniVersion":"1.0.0","name":"shell","plugins":[{"type":"shell-plugin"}]}`

// configured makes a node with a conf dir that somebody else fills.
func configured(n *node) { n.network = "builtin_network = false" }

func (n *node) installPlugin() {
	n.t.Helper()
	path := n.write("cni-bin/shell-plugin", fmt.Sprintf(shellPlugin, n.dir))
	if err := os.Chmod(path, 0o755); err != nil {
		n.t.Fatal(err)
	}
}

// calls are the commands that the plugin got for a pod.
func (n *node) calls(pod string) (commands []string) {
	b, _ := os.ReadFile(n.path("calls"))
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[1] == pod {
			commands = append(commands, f[0])
		}
	}
	return commands
}

func (n *node) networkReady() (bool, string) {
	n.t.Helper()
	r, err := n.rt.Status(n.ctx(), &runtimeapi.StatusRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, c := range r.Status.Conditions {
		if c.Type == "NetworkReady" {
			return c.Status, c.Reason + ": " + c.Message
		}
	}
	n.t.Fatal("no condition NetworkReady")
	return false, ""
}

func (n *node) untilNetwork(want bool) {
	n.t.Helper()
	eventually(n.t, 15*time.Second, fmt.Sprintf("NetworkReady=%t", want), func() error {
		if ready, why := n.networkReady(); ready != want {
			return fmt.Errorf("%t: %s", ready, why)
		}
		return nil
	})
}

func TestNoNetworkYet(t *testing.T) {
	n := newNode(t, configured)
	n.pull(busybox)
	if ready, why := n.networkReady(); ready || !strings.Contains(why, "NetworkPluginNotReady") || !strings.Contains(why, "cni plugin not initialized") {
		t.Errorf("without a configuration: %t, %s", ready, why)
	}
	_, err := n.runPod(n.ctx(), n.podConfig("early"))
	wantCode(t, "a pod without a network", err, codes.Unavailable, "cni plugin not initialized", n.path("net.d"))
	// The host's network needs none.
	host := n.pod(n.podConfig("host", hostNetwork))
	if out, _ := n.output(host, "c", "echo works"); out != "works\n" {
		t.Errorf("a pod on the host's network: %q", out)
	}
	if got := n.podNames(nil); len(got) != 1 {
		t.Errorf("pods: %v", got)
	}
	// What does not parse is told, what appears is used at once.
	n.write("net.d/05-broken.conflist", "{")
	eventually(t, 15*time.Second, "the broken file is told", func() error {
		if ready, why := n.networkReady(); ready || !strings.Contains(why, "05-broken.conflist") {
			return fmt.Errorf("%t, %s", ready, why)
		}
		return nil
	})
	n.installPlugin()
	n.write("net.d/10-shell.conflist", shellNetwork)
	n.untilNetwork(true)
	pod := n.pod(n.podConfig("early"))
	if st := n.podStatus(pod); st.Network.Ip != "198.51.100.7" {
		t.Errorf("address: %v", st.Network)
	}
	// The directory goes, and comes again.
	if err := os.RemoveAll(n.path("net.d")); err != nil {
		t.Fatal(err)
	}
	n.untilNetwork(false)
	// DEL is given the network that ADD was.
	n.removePod(pod)
	if got := strings.Join(n.calls(pod), " "); got != "ADD DEL" {
		t.Errorf("calls: %s", got)
	}
	n.write("net.d/10-shell.conflist", shellNetwork)
	n.untilNetwork(true)
	n.pod(n.podConfig("later"))
}

func TestPluginFails(t *testing.T) {
	n := newNode(t, configured, func(n *node) {
		n.installPlugin()
		n.write("net.d/10-shell.conflist", shellNetwork)
	})
	n.pull(busybox)
	n.untilNetwork(true)
	// At ADD: nothing is left, the name is free, the next attempt works.
	n.write("fail-ADD", "")
	for range 3 {
		_, err := n.runPod(n.ctx(), n.podConfig("pod"))
		if err == nil || !strings.Contains(err.Error(), "not now") || !strings.Contains(err.Error(), "the backend is down") {
			t.Errorf("a failing ADD: %v", err)
		}
	}
	if left := append(n.podNames(nil), entries(n.path("state/pods"))...); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if b, _ := os.ReadFile(n.path("calls")); strings.Count(string(b), "ADD ") != strings.Count(string(b), "DEL ") {
		t.Errorf("a failed ADD is followed by DEL: %s", b)
	}
	os.Remove(n.path("fail-ADD"))
	pod := n.pod(n.podConfig("pod"))
	id := n.run(pod, containerConfig("c", "sleep 1000; :"))

	// At DEL: the containers end, the pod stays, not ready, until a stop works.
	n.write("fail-DEL", "")
	for range 2 {
		_, err := n.rt.StopPodSandbox(n.ctx(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod})
		if err == nil || !strings.Contains(err.Error(), "the backend is down") {
			t.Errorf("a failing DEL: %v", err)
		}
	}
	_, err := n.rt.RemovePodSandbox(n.ctx(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod})
	if err == nil || !strings.Contains(err.Error(), "the backend is down") {
		t.Errorf("removal with a failing DEL: %v", err)
	}
	stays := func(when string) {
		t.Helper()
		if st := n.podStatus(pod); st.State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY || st.Network.Ip != "198.51.100.7" {
			t.Errorf("%s: %v", when, st)
		}
		if st := n.status(id); st.State != runtimeapi.ContainerState_CONTAINER_EXITED {
			t.Errorf("%s: its container is %s", when, st.State)
		}
		if got := n.podNames(&runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY}}); len(got) != 1 {
			t.Errorf("%s: pods that are not ready: %v", when, got)
		}
	}
	stays("after failed stops")
	n.restart()
	stays("after a restart")
	os.Remove(n.path("fail-DEL"))
	n.stopPod(pod)
	n.removePod(pod)

	// At both: the pod that could not be undone is listed, for the kubelet to remove.
	n.write("fail-ADD", "")
	n.write("fail-DEL", "")
	_, err = n.runPod(n.ctx(), n.podConfig("both"))
	if err == nil || !strings.Contains(err.Error(), "the backend is down") {
		t.Errorf("failing ADD and DEL: %v", err)
	}
	list, err := n.rt.ListPodSandbox(n.ctx(), nil)
	if err != nil || len(list.Items) != 1 || list.Items[0].State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		t.Fatalf("pods: %v, %v", list, err)
	}
	_, err = n.runPod(n.ctx(), n.podConfig("both"))
	wantCode(t, "its name", err, codes.AlreadyExists)
	os.Remove(n.path("fail-ADD"))
	os.Remove(n.path("fail-DEL"))
	n.removePod(list.Items[0].Id)
	n.pod(n.podConfig("both"))
}

// What the plugins before a failing one have made is undone.
func TestSecondPluginFails(t *testing.T) {
	n := newNode(t, configured, func(n *node) {
		n.installPlugin()
		n.write("net.d/10-chain.conflist", fmt.Sprintf(`{"cniVersion":"1.0.0","name":%[1]q,"plugins":[
			{"type":"bridge","bridge":%[1]q,"isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","dataDir":%[2]q,"ranges":[[{"subnet":"10.89.%[3]d.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
			{"type":"portmap","capabilities":{"portMappings":true}},
			{"type":"shell-plugin"}]}`, n.bridge, n.path("root/cni/networks"), n.n))
		n.write("fail-ADD", "")
	})
	n.untilNetwork(true)
	port := freePort(t)
	withPort := func(c *runtimeapi.PodSandboxConfig) {
		c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: port}}
	}
	_, err := n.runPod(n.ctx(), n.podConfig("pod", withPort))
	if err == nil || !strings.Contains(err.Error(), "shell-plugin") {
		t.Errorf("the third plugin fails: %v", err)
	}
	if left := append(n.leases(), n.filterElements()...); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	os.Remove(n.path("fail-ADD"))
	pod := n.pod(n.podConfig("pod", withPort))
	if st := n.podStatus(pod); !strings.HasPrefix(st.Network.Ip, "10.89.") {
		t.Errorf("address: %v", st.Network)
	}
	if b, _ := os.ReadFile(n.path("calls")); !strings.Contains(string(b), "ADD prevResult") {
		t.Errorf("the plugin was not given what the others made: %s", b)
	}
	if got := len(n.leases()); got != 1 {
		t.Errorf("%d leases", got)
	}
}

// A plugin that hangs is not the end of the node: others go on, and the pod is
// made when it answers.
func TestPluginIsSlow(t *testing.T) {
	n := newNode(t, configured, func(n *node) {
		n.installPlugin()
		n.write("net.d/10-shell.conflist", shellNetwork)
		n.write("slow-ADD", "")
	})
	n.untilNetwork(true)
	done := make(chan error, 1)
	go func() {
		_, err := n.runPod(n.ctx(), n.podConfig("slow"))
		done <- err
	}()
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	n.pod(n.podConfig("host", hostNetwork))
	n.networkReady()
	n.podNames(nil)
	if took := time.Since(began); took > 400*time.Millisecond {
		t.Logf("others waited %s", took)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	// And when the daemon is killed in the middle of ADD, DEL follows.
	go n.runPod(n.ctx(), n.podConfig("cut-off"))
	time.Sleep(150 * time.Millisecond)
	n.restart()
	eventually(t, 10*time.Second, "what was half made is gone", func() error {
		if left := entries(n.path("state/pods")); len(left) != 2 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	n.pod(n.podConfig("cut-off"))
}

// The network as a kubelet that knows the pod CIDR asks for it.
func TestConfTemplate(t *testing.T) {
	n := newNode(t, func(n *node) {
		n.network = fmt.Sprintf("conf_template = %q", n.write("template", fmt.Sprintf(`{"cniVersion":"1.0.0","name":%[1]q,"plugins":[
			{"type":"bridge","bridge":%[1]q,"isGateway":true,"ipam":{"type":"host-local","dataDir":%[2]q,"ranges":[{{range $i, $r := .PodCIDRRanges}}{{if $i}},{{end}}[{"subnet":"{{$r}}"}]{{end}}]}}]}`,
			n.bridge, n.path("root/cni/networks"))))
	})
	n.untilNetwork(false)
	_, err := n.rt.UpdateRuntimeConfig(n.ctx(), &runtimeapi.UpdateRuntimeConfigRequest{RuntimeConfig: &runtimeapi.RuntimeConfig{
		NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: fmt.Sprintf("10.88.%d.0/24", n.n)}}})
	if err != nil {
		t.Fatal(err)
	}
	n.untilNetwork(true)
	if st := n.podStatus(n.pod(n.podConfig("pod"))); !strings.HasPrefix(st.Network.Ip, fmt.Sprintf("10.88.%d.", n.n)) {
		t.Errorf("address: %v", st.Network)
	}
}
