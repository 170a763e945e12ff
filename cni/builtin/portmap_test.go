package builtin

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/berth-cri/berth/cni/nettest"
	"github.com/berth-cri/berth/linux/namespace"
)

func portNet(prev Result, mappings ...object) merged {
	m := merged{"cniVersion": "1.0.0", "name": "test-net", "type": "portmap", "runtimeConfig": object{"portMappings": mappings}}
	if prev != nil {
		m["prevResult"] = prev
	}
	return m
}

func mapping(host, pod int, protocol, hostIP string) object {
	return object{"hostPort": host, "containerPort": pod, "protocol": protocol, "hostIP": hostIP}
}

func TestHostPorts(t *testing.T) {
	nettest.NeedHost(t)
	for _, value := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+value, func(t *testing.T) {
			for _, name := range []string{"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"} {
				if err := namespace.SetSysctl(name, value); err != nil && value == "1" {
					t.Skip(err)
				}
			}
			testHostPorts(t)
		})
	}
}

func testHostPorts(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	outside := nettest.Outside(t)
	// Bridge netfilter translates before the bridge has looked where to, so the
	// way from a pod back to itself needs hairpin mode.
	conf := bridgeNet(dir).with(object{"hairpinMode": true})
	pod, neighbour := nettest.Pod(t), nettest.Pod(t)
	res := mustAdd(t, conf, "pod", pod)
	defer mustDel(t, conf, "pod", pod)
	n4, n6 := ips(mustAdd(t, conf, "neighbour", neighbour))
	defer mustDel(t, conf, "neighbour", neighbour)
	ports := portNet(res, mapping(18080, 80, "tcp", ""), mapping(18053, 53, "udp", ""), mapping(18081, 80, "TCP", "192.0.2.1"),
		mapping(18082, 80, "tcp", "0.0.0.0"), mapping(18083, 80, "tcp", "::"), mapping(18084, 80, "tcp", "127.0.0.1"), mapping(18085, 80, "tcp", "fd99::1"))
	mustAdd(t, ports, "pod", pod)
	nettest.Serve(t, pod, "tcp", ":80", "pod")
	nettest.Serve(t, pod, "udp", ":53", "pod")
	nettest.Serve(t, "", "tcp", ":18090", "host")
	const gw4, gw6 = "10.77.0.1", "fd77::1"
	const refused = ""
	for _, tt := range []struct {
		name, from, network, to, saw string
	}{
		{"node address from beyond", outside, "tcp", "192.0.2.1:18080", "192.0.2.2"},
		{"node IPv6 address from beyond", outside, "tcp", "[fd99::1]:18080", "fd99::2"},
		{"udp from beyond", outside, "udp", "192.0.2.1:18053", "192.0.2.2"},
		{"udp IPv6 from beyond", outside, "udp", "[fd99::1]:18053", "fd99::2"},
		{"loopback", "", "tcp", "127.0.0.1:18080", gw4},
		{"IPv6 loopback", "", "tcp", "[::1]:18080", refused}, // no route_localnet there
		{"another loopback address", "", "tcp", "127.0.0.9:18080", gw4},
		{"udp by loopback", "", "udp", "127.0.0.1:18053", gw4},
		{"node address from the node", "", "tcp", "192.0.2.1:18080", "192.0.2.1"},
		{"node IPv6 address from the node", "", "tcp", "[fd99::1]:18080", "fd99::1"},
		{"gateway address from the node", "", "tcp", gw4 + ":18080", gw4},
		{"node address from another pod", neighbour, "tcp", "192.0.2.1:18080", gw4},
		{"node IPv6 address from another pod", neighbour, "tcp", "[fd99::1]:18080", gw6},
		{"gateway address from another pod", neighbour, "tcp", gw4 + ":18080", gw4},
		{"udp from another pod", neighbour, "udp", "192.0.2.1:18053", gw4},
		{"node address from the pod itself", pod, "tcp", "192.0.2.1:18080", gw4},
		{"node IPv6 address from the pod itself", pod, "tcp", "[fd99::1]:18080", gw6},
		{"host address: that one", outside, "tcp", "192.0.2.1:18081", "192.0.2.2"},
		{"host address: another one", neighbour, "tcp", gw4 + ":18081", refused},
		{"host address: the other family", outside, "tcp", "[fd99::1]:18081", refused},
		{"all of IPv4", outside, "tcp", "192.0.2.1:18082", "192.0.2.2"},
		{"all of IPv4: not IPv6", outside, "tcp", "[fd99::1]:18082", refused},
		{"all of IPv6", outside, "tcp", "[fd99::1]:18083", "fd99::2"},
		{"all of IPv6: not IPv4", outside, "tcp", "192.0.2.1:18083", refused},
		{"host address 127.0.0.1", "", "tcp", "127.0.0.1:18084", gw4},
		{"host address 127.0.0.1: not from beyond", outside, "tcp", "192.0.2.1:18084", refused},
		{"IPv6 host address", outside, "tcp", "[fd99::1]:18085", "fd99::2"},
		{"the wrong protocol", outside, "tcp", "192.0.2.1:18053", refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			who, saw, err := nettest.Ask(tt.from, tt.network, tt.to)
			if tt.saw == refused {
				if err == nil {
					t.Errorf("answered by %q", who)
				}
				return
			}
			if err != nil || who != "pod" || saw != tt.saw {
				t.Errorf("answered by %q that saw %s, %v; want pod and %s", who, saw, err, tt.saw)
			}
		})
	}
	if who, _, err := nettest.Ask("", "tcp", "127.0.0.1:18090"); err != nil || who != "host" {
		t.Errorf("a port of the host itself: %q, %v", who, err)
	}
	for _, a := range []netip.Addr{n4, n6} {
		if _, _, err := nettest.Ask("", "tcp", net.JoinHostPort(a.String(), "18080")); err == nil {
			t.Error("the port is open on a pod's address")
		}
	}
	if _, err := call(t, Check, ports, "pod", pod); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	mustDel(t, ports, "pod", pod)
	mustDel(t, ports, "pod", pod)
	if who, _, err := nettest.Ask(outside, "tcp", "192.0.2.1:18080"); err == nil {
		t.Errorf("after DEL: answered by %q", who)
	}
	if _, err := call(t, Check, ports, "pod", pod); !errdefs.IsNotFound(err) {
		t.Errorf("CHECK after DEL: %v", err)
	}
}

// With route_localnet the kernel takes packets to 127.0.0.1 from the pods
// (CVE-2020-8558): a listener there must stay the host's own.
func TestLoopbackOfTheHostStaysItsOwn(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	conf := bridgeNet(dir)
	pod := nettest.Pod(t)
	res := mustAdd(t, conf, "pod", pod)
	defer mustDel(t, conf, "pod", pod)
	ports := portNet(res, mapping(18080, 80, "tcp", ""))
	mustAdd(t, ports, "pod", pod)
	defer mustDel(t, ports, "pod", pod)
	nettest.Serve(t, "", "tcp", "127.0.0.1:19999", "secret")
	nettest.RouteLoopbackTo(t, pod, "10.77.0.1")
	if who, _, err := nettest.Ask(pod, "tcp", "127.0.0.1:19999"); err == nil {
		t.Errorf("a pod reached %q on the host's 127.0.0.1", who)
	}
	// The attack works without the guard, so the test tests something.
	if err := remove(localnet, []nftables.SetElement{{Key: ifKey("btest0")}}); err != nil {
		t.Fatal(err)
	}
	if who, _, err := nettest.Ask(pod, "tcp", "127.0.0.1:19999"); err != nil || who != "secret" {
		t.Errorf("without the guard: %q, %v", who, err)
	}
}

func TestHostPortConflicts(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	conf := bridgeNet(dir)
	first, second := nettest.Pod(t), nettest.Pod(t)
	resFirst, resSecond := mustAdd(t, conf, "first", first), mustAdd(t, conf, "second", second)
	defer mustDel(t, conf, "first", first)
	defer mustDel(t, conf, "second", second)
	nettest.Serve(t, first, "tcp", ":80", "first")
	nettest.Serve(t, second, "tcp", ":80", "second")
	one := portNet(resFirst, mapping(18080, 80, "tcp", ""))
	two := portNet(resSecond, mapping(18070, 80, "tcp", ""), mapping(18080, 80, "tcp", ""))
	mustAdd(t, one, "first", first)
	_, err := call(t, Add, two, "second", second)
	if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), "first") {
		t.Errorf("a taken port: %v, want one that names the holder", err)
	}
	if who, _, err := nettest.Ask("", "tcp", "127.0.0.1:18070"); err == nil {
		t.Errorf("half of a refused ADD is there: %q", who)
	}
	mustDel(t, two, "second", second) // what libcni does next
	if who, _, err := nettest.Ask("", "tcp", "127.0.0.1:18080"); err != nil || who != "first" {
		t.Errorf("the holder lost its port: %q, %v", who, err)
	}
	mustDel(t, one, "first", first)
	mustAdd(t, two, "second", second)
	mustDel(t, one, "first", first) // late and twice
	if who, _, err := nettest.Ask("", "tcp", "127.0.0.1:18080"); err != nil || who != "second" {
		t.Errorf("the next holder: %q, %v", who, err)
	}
	// GC of another network leaves it alone.
	other := portNet(nil).with(object{"name": "test", "cni.dev/valid-attachments": []object{}})
	if _, err := call(t, GC, other, "", ""); err != nil {
		t.Fatal(err)
	}
	if who, _, err := nettest.Ask("", "tcp", "127.0.0.1:18080"); err != nil || who != "second" {
		t.Errorf("after the GC of another network: %q, %v", who, err)
	}
	if _, err := call(t, GC, portNet(nil).with(object{"cni.dev/valid-attachments": []object{}}), "", ""); err != nil {
		t.Fatal(err)
	}
	if who, _, err := nettest.Ask("", "tcp", "127.0.0.1:18080"); err == nil {
		t.Errorf("after GC: %q", who)
	}
}

// A UDP client that keeps its port is led to the next pod, not to the last one.
func TestUDPFollowsThePort(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	outside := nettest.Outside(t)
	conf := bridgeNet(dir)
	for _, id := range []string{"first", "second"} {
		pod := nettest.Pod(t)
		res := mustAdd(t, conf, id, pod)
		ports := portNet(res, mapping(18053, 53, "udp", ""))
		mustAdd(t, ports, id, pod)
		nettest.Serve(t, pod, "udp", ":53", id)
		if who, _, err := nettest.AskFrom(outside, "udp", "192.0.2.2:5353", "192.0.2.1:18053"); err != nil || who != id {
			t.Errorf("answered by %q, %v; want %s", who, err, id)
		}
		mustDel(t, ports, id, pod)
		mustDel(t, conf, id, pod)
	}
}

func TestPortmapSNAT(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	outside := nettest.Outside(t)
	conf := bridgeNet(dir)
	pod := nettest.Pod(t)
	res := mustAdd(t, conf, "pod", pod)
	defer mustDel(t, conf, "pod", pod)
	nettest.Serve(t, pod, "tcp", ":80", "pod")
	for name, tt := range map[string]struct {
		more       object
		saw, saw6  string
		byLoopback bool
	}{
		"default":  {nil, "192.0.2.2", "fd99::2", true},
		"none":     {object{"snat": false}, "192.0.2.2", "fd99::2", false},
		"everyone": {object{"masqAll": true}, "10.77.0.1", "fd77::1", true},
	} {
		t.Run(name, func(t *testing.T) {
			ports := portNet(res, mapping(18080, 80, "tcp", "")).with(tt.more)
			mustAdd(t, ports, "pod", pod)
			defer mustDel(t, ports, "pod", pod)
			for to, want := range map[string]string{"192.0.2.1:18080": tt.saw, "[fd99::1]:18080": tt.saw6} {
				if _, saw, err := nettest.Ask(outside, "tcp", to); err != nil || saw != want {
					t.Errorf("%s: the pod saw %s, %v; want %s", to, saw, err, want)
				}
			}
			if tt.byLoopback {
				if _, _, err := nettest.Ask("", "tcp", "127.0.0.1:18080"); err != nil {
					t.Errorf("by loopback: %v", err)
				}
			}
		})
	}
}

func TestPortmapConfiguration(t *testing.T) {
	base := merged{"cniVersion": "1.0.0", "name": "n", "type": "portmap"}
	port := func(m object) object { return object{"runtimeConfig": object{"portMappings": []object{m}}} }
	for name, tt := range map[string]struct {
		more object
		is   func(error) bool
	}{
		"iptables":        {object{"backend": "iptables"}, IsUnsupported},
		"conditions":      {object{"conditionsV4": []string{"-d", "1.2.3.4"}}, IsUnsupported},
		"conditions IPv6": {object{"conditionsV6": []string{"ip6 daddr ::1"}}, IsUnsupported},
		"mark":            {object{"markMasqBit": 5}, IsUnsupported},
		"mark chain":      {object{"externalSetMarkChain": "KUBE-MARK-MASQ"}, IsUnsupported},
		"protocol":        {port(mapping(1, 2, "icmp", "")), errdefs.IsInvalidArgument},
		"no host port":    {port(mapping(0, 2, "tcp", "")), errdefs.IsInvalidArgument},
		"large host port": {port(mapping(65536, 2, "tcp", "")), errdefs.IsInvalidArgument},
		"negative port":   {port(mapping(1, -2, "tcp", "")), errdefs.IsInvalidArgument},
		"host address":    {port(mapping(1, 2, "tcp", "x")), errdefs.IsInvalidArgument},
		"a zone":          {port(mapping(1, 2, "tcp", "fe80::1%eth0")), errdefs.IsInvalidArgument},
		"not JSON":        {object{"snat": "x"}, errdefs.IsInvalidArgument},
		"not chained":     {port(mapping(1, 2, "tcp", "")), errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := call(t, Add, base.with(tt.more), "x", ""); !tt.is(err) {
				t.Errorf("%v", err)
			}
		})
	}
	nettest.NeedHost(t)
	if _, err := call(t, Del, base, "x", ""); err != nil {
		t.Errorf("DEL without ports: %v", err)
	}
}

func TestPTP(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	outside := nettest.Outside(t)
	conf := bridgeNet(dir).with(object{"type": "ptp"})
	conf["ipam"].(object)["routes"] = []object{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}}
	a, b := nettest.Pod(t), nettest.Pod(t)
	resA, resB := mustAdd(t, conf, "a", a), mustAdd(t, conf, "b", b)
	nettest.Serve(t, "", "tcp", ":8080", "host")
	nettest.Serve(t, outside, "tcp", ":8080", "outside")
	nettest.Serve(t, b, "tcp", ":8080", "b")
	a4, a6 := ips(resA)
	b4, b6 := ips(resB)
	ports := portNet(resB, mapping(18080, 8080, "tcp", ""))
	mustAdd(t, ports, "b", b)
	for _, tt := range []struct{ from, to, who, saw string }{
		{a, net.JoinHostPort(b4.String(), "8080"), "b", a4.String()},
		{a, net.JoinHostPort(b6.String(), "8080"), "b", a6.String()},
		{a, "10.77.0.1:8080", "host", a4.String()},
		{a, "[fd77::1]:8080", "host", a6.String()},
		{"", net.JoinHostPort(b4.String(), "8080"), "b", "10.77.0.1"},
		{a, "192.0.2.2:8080", "outside", "192.0.2.1"},
		{a, "[fd99::2]:8080", "outside", "fd99::1"},
		{"", "127.0.0.1:18080", "b", "10.77.0.1"},
		{outside, "192.0.2.1:18080", "b", "192.0.2.2"},
		{outside, "[fd99::1]:18080", "b", "fd99::2"},
		{b, "192.0.2.1:18080", "b", "10.77.0.1"},
	} {
		if who, saw, err := nettest.Ask(tt.from, "tcp", tt.to); err != nil || who != tt.who || saw != tt.saw {
			t.Errorf("%s: answered by %q that saw %s, %v; want %q and %s", tt.to, who, saw, err, tt.who, tt.saw)
		}
	}
	mustDel(t, ports, "b", b)
	for i := range 2 {
		mustDel(t, conf, "a", a)
		mustDel(t, conf, "b", "")
		if l, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: &net.IPNet{IP: a4.AsSlice(), Mask: net.CIDRMask(32, 32)}}, netlink.RT_FILTER_DST); err != nil || len(l) != 0 {
			t.Errorf("DEL %d: the host's route is left: %v, %v", i, l, err)
		}
	}
}

func FuzzPortmapConfiguration(f *testing.F) {
	f.Add([]byte(`{"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp", "hostIP": "::ffff:1.2.3.4"}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parsePortmap(b)
		if err != nil {
			return
		}
		for _, p := range c.ports {
			if p.host == 0 || p.pod == 0 {
				t.Errorf("port %s", p)
			}
			_ = fmt.Sprint(p)
		}
	})
}
