package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cri/berth/cni/nettest"
	"github.com/google/nftables"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// netns is the path of a pod's network namespace.
func (n *node) netns(pod string) string { return n.path("state/pods", pod, "ns/net") }

// addresses are a pod's, the IPv4 one first.
func (n *node) addresses(pod string) (v4, v6 string) {
	n.t.Helper()
	st := n.podStatus(pod).Network
	if len(st.AdditionalIps) != 1 || strings.Contains(st.Ip, ":") || !strings.Contains(st.AdditionalIps[0].Ip, ":") {
		n.t.Fatalf("addresses: %v", st)
	}
	return st.Ip, st.AdditionalIps[0].Ip
}

// filterElements are the elements of nftables sets that belong to the node's network.
func (n *node) filterElements() (found []string) {
	c, err := nftables.New()
	if err != nil {
		return []string{err.Error()}
	}
	tables, _ := c.ListTables()
	for _, table := range tables {
		if !strings.HasPrefix(table.Name, "berth") {
			continue
		}
		sets, _ := c.GetSets(table)
		for _, s := range sets {
			elements, _ := c.GetSetElements(s)
			for _, e := range elements {
				if strings.HasPrefix(e.Comment, n.bridge+" ") {
					found = append(found, fmt.Sprintf("%s %s %v %s", table.Name, s.Name, e.Key, e.Comment))
				}
			}
		}
	}
	return found
}

// freePort is a port that nobody of the host uses now.
func freePort(t *testing.T) int32 {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return int32(l.Addr().(*net.TCPAddr).Port)
}

// hostAddresses are the machine's own addresses besides loopback, of both families.
func hostAddresses() (found []string) {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().IsGlobalUnicast() {
			found = append(found, p.Addr().String())
		}
	}
	return found
}

func wantAnswer(t *testing.T, what, from, network, address, want string) {
	t.Helper()
	got, _, err := nettest.Ask(from, network, address)
	if err != nil || got != want {
		t.Errorf("%s: %s %s answers %q, %v; want %q", what, network, address, got, err, want)
	}
}

func wantSilence(t *testing.T, what, from, network, address string) {
	t.Helper()
	if got, _, err := nettest.Ask(from, network, address); err == nil {
		t.Errorf("%s: %s %s answers %q, nobody should", what, network, address, got)
	}
}

func TestPodsReachEachOther(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	one, two := n.pod(n.podConfig("one")), n.pod(n.podConfig("two"))
	web := containerConfig("web", "mkdir /www; hostname >/www/name; httpd -p 8080 -h /www; echo ready; sleep 1000; :")
	n.ready(n.run(one, web))
	id := n.run(two, containerConfig("client", "sleep 1000; :"))
	v4, v6 := n.addresses(one)
	own4, own6 := n.addresses(two)
	for _, address := range []string{v4, v6} {
		if out, code := n.exec(id, "printf 'GET /name HTTP/1.0\\r\\n\\r\\n' | nc -w 10 "+address+" 8080 | tail -1"); out != "one\n" || code != 0 {
			t.Errorf("%s from a neighbour: %q", address, out)
		}
	}
	for _, address := range []string{v4, own4, v6, own6, "127.0.0.1", "::1"} {
		if out, code := n.exec(id, "ping -c 1 -W 5 "+address); code != 0 {
			t.Errorf("ping %s: %s", address, out)
		}
	}
	if out, _ := n.exec(id, "ip -o -4 addr show eth0 | awk '{print $4}'; ip route | grep -c default; ip -6 route | grep -c default; cat /sys/class/net/eth0/operstate"); out != own4+"/24\n1\n1\nup\n" {
		t.Errorf("its interface: %q", out)
	}
	// From the host and, in the end, after a restart of the daemon.
	nettest.Serve(t, n.netns(two), "udp", ":53", "two")
	wantAnswer(t, "from the host", "", "udp", net.JoinHostPort(own4, "53"), "two")
	wantAnswer(t, "from the host", "", "udp", net.JoinHostPort(own6, "53"), "two")
	wantAnswer(t, "from a neighbour", n.netns(one), "udp", net.JoinHostPort(own6, "53"), "two")
	n.restart()
	wantAnswer(t, "after a restart", n.netns(one), "udp", net.JoinHostPort(own4, "53"), "two")
	if a, b := n.addresses(two); a != own4 || b != own6 {
		t.Errorf("addresses after a restart: %s %s", a, b)
	}
	// An address that is used again leads to its new owner at once.
	n.removePod(one)
	wantSilence(t, "a removed pod", "", "tcp", net.JoinHostPort(v4, "8080"))
}

func TestHostPorts(t *testing.T) {
	n := newNode(t)
	tcp, udp, both, one := freePort(t), freePort(t), freePort(t), freePort(t)
	pod := n.pod(n.podConfig("ports", func(c *runtimeapi.PodSandboxConfig) {
		c.PortMappings = []*runtimeapi.PortMapping{
			{ContainerPort: 80, HostPort: tcp},
			{ContainerPort: 53, HostPort: udp, Protocol: runtimeapi.Protocol_UDP},
			{ContainerPort: 81, HostPort: both},
			{ContainerPort: 81, HostPort: both, Protocol: runtimeapi.Protocol_UDP},
			{ContainerPort: 80, HostPort: one, HostIp: "127.0.0.1"},
			{ContainerPort: 9000}, // no host port
		}
	}))
	ns := n.netns(pod)
	nettest.Serve(t, ns, "tcp", ":80", "web")
	nettest.Serve(t, ns, "udp", ":53", "dns")
	nettest.Serve(t, ns, "tcp", ":81", "both-tcp")
	nettest.Serve(t, ns, "udp", ":81", "both-udp")
	neighbour := n.pod(n.podConfig("neighbour"))
	port := func(host string, p int32) string { return net.JoinHostPort(host, fmt.Sprint(p)) }
	check := func(when string) {
		t.Helper()
		for _, host := range append(hostAddresses(), "127.0.0.1") {
			wantAnswer(t, when, "", "tcp", port(host, tcp), "web")
			wantAnswer(t, when, "", "udp", port(host, udp), "dns")
			wantAnswer(t, when, "", "tcp", port(host, both), "both-tcp")
			wantAnswer(t, when, "", "udp", port(host, both), "both-udp")
		}
		wantAnswer(t, when, "", "tcp", port("127.0.0.1", one), "web")
	}
	check("at first")
	for _, host := range hostAddresses() {
		wantAnswer(t, "from another pod", n.netns(neighbour), "tcp", port(host, tcp), "web")
		wantAnswer(t, "from the pod itself", ns, "tcp", port(host, tcp), "web")
		wantSilence(t, "a port of loopback only", "", "tcp", port(host, one))
	}
	n.restart()
	check("after a restart")
	// A second pod with the port that is taken.
	_, err := n.runPod(n.ctx(), n.podConfig("second", func(c *runtimeapi.PodSandboxConfig) {
		c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: tcp}}
	}))
	if err == nil {
		t.Log("a host port can be given to two pods")
	}
	for _, p := range n.podNames(nil) {
		if p == "second" && err != nil {
			t.Error("a pod that failed is listed")
		}
	}
	n.stopPod(pod)
	n.stopPod(pod)
	wantSilence(t, "after the stop", "", "udp", port("127.0.0.1", udp))
	for _, e := range n.filterElements() {
		if strings.Contains(e, pod) {
			t.Errorf("left after the stop: %s", e)
		}
	}
	if st := n.podStatus(pod); st.Network.Ip == "" {
		t.Error("the address is not told any more")
	}
	// The port is free for the next pod.
	again := n.pod(n.podConfig("again", func(c *runtimeapi.PodSandboxConfig) {
		c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 70, HostPort: udp, Protocol: runtimeapi.Protocol_UDP}}
	}))
	nettest.Serve(t, n.netns(again), "udp", ":70", "again")
	wantAnswer(t, "a port used again", "", "udp", port("127.0.0.1", udp), "again")
}

// Many pods come and go, and use addresses again, without a wrong answer.
func TestAddressesAreUsedAgain(t *testing.T) {
	n := newNode(t, func(n *node) {
		n.network = fmt.Sprintf("builtin_network = true\nbuiltin_bridge = %q\nbuiltin_subnets = [\"10.%d.%d.0/29\"]", n.bridge, 90+n.n%100, n.n)
	})
	watcher := n.pod(n.podConfig("watcher"))
	for round := range 3 {
		var pods []string
		for i := range 4 { // 8 addresses, of which the net, the gateway and the broadcast are not for pods
			name := fmt.Sprintf("p%d-%d", round, i)
			pod := n.pod(n.podConfig(name))
			nettest.Serve(t, n.netns(pod), "tcp", ":80", name)
			pods = append(pods, pod)
			wantAnswer(t, "a new pod", n.netns(watcher), "tcp", n.podStatus(pod).Network.Ip+":80", name)
			wantAnswer(t, "a new pod from the host", "", "tcp", n.podStatus(pod).Network.Ip+":80", name)
		}
		_, err := n.runPod(n.ctx(), n.podConfig("one-too-many"))
		wantCode(t, "no address is left", err, codes.ResourceExhausted, "address")
		if left := n.podNames(nil); len(left) != 5 {
			t.Errorf("pods: %v", left)
		}
		for _, pod := range pods {
			n.removePod(pod)
		}
	}
}

// The namespaces of a pod that are lost are noticed, and the rest is freed.
func TestLostNamespace(t *testing.T) {
	n := newNode(t)
	pod := n.pod(n.podConfig("lost"))
	if out := command("umount", n.netns(pod)); out != "" {
		t.Fatal(out)
	}
	n.restart()
	if st := n.podStatus(pod); st.State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("a pod without its network namespace is %s", st.State)
	}
	n.stopPod(pod)
	n.removePod(pod)
	if left := n.leases(); len(left) > 0 {
		t.Errorf("leases: %v", left)
	}
}
