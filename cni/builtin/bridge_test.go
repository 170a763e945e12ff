package builtin

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/cni/netns"
	"github.com/berth-cri/berth/cni/nettest"
)

func TestPodsReachEachOtherAndTheHost(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	conf := bridgeNet(dir)
	a, b := nettest.Pod(t), nettest.Pod(t)
	resA, resB := mustAdd(t, conf, "a", a), mustAdd(t, conf, "b", b)
	defer mustDel(t, conf, "a", a)
	defer mustDel(t, conf, "b", b)
	nettest.Serve(t, "", "tcp", ":8080", "host")
	nettest.Serve(t, a, "tcp", ":8080", "a")
	nettest.Serve(t, b, "tcp", ":8080", "b")
	a4, a6 := ips(resA)
	b4, b6 := ips(resB)
	gw4, gw6 := netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("fd77::1")
	for _, tt := range []struct {
		from     string
		to       netip.Addr
		who, saw string
	}{
		{a, b4, "b", a4.String()},
		{a, b6, "b", a6.String()},
		{b, a4, "a", b4.String()},
		{b, a6, "a", b6.String()},
		{"", a4, "a", gw4.String()},
		{"", a6, "a", gw6.String()},
		{a, gw4, "host", a4.String()},
		{b, gw6, "host", b6.String()},
	} {
		who, saw, err := nettest.Ask(tt.from, "tcp", netip.AddrPortFrom(tt.to, 8080).String())
		if err != nil || who != tt.who || saw != tt.saw {
			t.Errorf("%s: answered by %q that saw %s, %v; want %q and %s", tt.to, who, saw, err, tt.who, tt.saw)
		}
	}
}

func TestMasqueradeOnlyBeyondTheSubnet(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	outside := nettest.Outside(t)
	conf := bridgeNet(dir)
	pod := nettest.Pod(t)
	mustAdd(t, conf, "a", pod)
	defer mustDel(t, conf, "a", pod)
	nettest.Serve(t, outside, "tcp", ":8080", "outside")
	for to, host := range map[string]string{"192.0.2.2:8080": "192.0.2.1", "[fd99::2]:8080": "fd99::1"} {
		who, saw, err := nettest.Ask(pod, "tcp", to)
		if err != nil || who != "outside" || saw != host {
			t.Errorf("%s: answered by %q that saw %s, %v; want the host's %s", to, who, saw, err, host)
		}
	}
	// Somebody reloads the firewall: the next pod repairs the rules.
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	c.FlushRuleset()
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	second := nettest.Pod(t)
	mustAdd(t, conf, "b", second)
	defer mustDel(t, conf, "b", second)
	if who, saw, err := nettest.Ask(second, "tcp", "192.0.2.2:8080"); err != nil || who != "outside" || saw != "192.0.2.1" {
		t.Errorf("after a flush: answered by %q that saw %s, %v", who, saw, err)
	}
}

// The case that made neighbours talk to the dead: an address goes to another pod
// while its last holder's namespace lives on.
func TestReusedAddressReachesTheNewPod(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	conf := bridgeNet(dir)
	neighbour := nettest.Pod(t)
	mustAdd(t, conf, "neighbour", neighbour)
	defer mustDel(t, conf, "neighbour", neighbour)
	for _, mac := range []string{"", "02:00:00:00:00:01"} { // ours, and one that a pod asks for
		want := []string{"10.77.0.99", "fd77::99"}
		requested := conf.with(object{"runtimeConfig": object{"ips": want, "mac": mac}})
		old := nettest.Pod(t) // stays until the end of the test
		mustAdd(t, conf.with(object{"runtimeConfig": object{"ips": want}}), "old"+mac, old)
		nettest.Serve(t, old, "tcp", ":8080", "old")
		for _, ip := range want {
			for _, from := range []string{"", neighbour} {
				if who, _, err := nettest.Ask(from, "tcp", net.JoinHostPort(ip, "8080")); err != nil || who != "old" {
					t.Fatalf("before: %q, %v", who, err)
				}
			}
		}
		mustDel(t, conf, "old"+mac, old)
		pod := nettest.Pod(t)
		mustAdd(t, requested, "new"+mac, pod)
		nettest.Serve(t, pod, "tcp", ":8080", "new")
		for _, ip := range want {
			for _, from := range []string{"", neighbour} {
				for range 4 {
					start := time.Now()
					who, _, err := nettest.Ask(from, "tcp", net.JoinHostPort(ip, "8080"))
					if err != nil || who != "new" {
						t.Errorf("%s with MAC %q from %q after %s: answered by %q, %v", ip, mac, from, time.Since(start), who, err)
					}
				}
			}
		}
		mustDel(t, requested, "new"+mac, pod)
	}
}

func TestTwentyPodsAtOnce(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	conf := bridgeNet(dir)
	var wg sync.WaitGroup
	for i := range 20 {
		pod := nettest.Pod(t)
		wg.Go(func() {
			id := fmt.Sprint(i)
			if _, err := call(t, Add, conf, id, pod); err != nil {
				t.Errorf("ADD %s: %v", id, err)
			}
			if _, err := call(t, Check, conf, id, pod); err == nil {
				t.Error("CHECK without a prevResult succeeds")
			}
			if _, err := call(t, Del, conf, id, pod); err != nil {
				t.Errorf("DEL %s: %v", id, err)
			}
		})
	}
	wg.Wait()
}

func TestDelWhateverIsLeft(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	conf := bridgeNet(dir).with(object{"macspoofchk": true})
	for name, tt := range map[string]struct {
		gone, noNetns, twice, prevResult bool
	}{
		"with the namespace":        {},
		"namespace gone":            {gone: true},
		"without a namespace":       {noNetns: true},
		"gone and not even a path":  {gone: true, noNetns: true},
		"twice":                     {twice: true},
		"with the result of ADD":    {prevResult: true},
		"with the result and twice": {prevResult: true, twice: true},
	} {
		t.Run(name, func(t *testing.T) {
			pod, remove := nettest.NewPod(t)
			res := mustAdd(t, conf, "x", pod)
			conf := conf
			if tt.prevResult {
				conf = conf.with(object{"prevResult": res})
			}
			if tt.gone {
				remove()
			} else {
				defer remove()
			}
			if tt.noNetns {
				pod = ""
			}
			mustDel(t, conf, "x", pod)
			if tt.twice {
				mustDel(t, conf, "x", pod)
			}
			if l := leaseFiles(t, dir); len(l) != 0 {
				t.Errorf("leases left: %v", l)
			}
		})
	}
	if _, err := call(t, Del, conf, "never added", ""); err != nil {
		t.Errorf("DEL of what was never added: %v", err)
	}
}

func TestFailedAddLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	conf := bridgeNet(dir)
	pod := nettest.Pod(t)
	if err := netns.Do(pod, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eth0"
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	}); err != nil {
		t.Fatal(err)
	}
	badRoute := bridgeNet(dir)
	badRoute["ipam"].(object)["routes"] = []object{{"dst": "10.5.0.0/16", "gw": "10.6.0.1"}}
	for name, tt := range map[string]struct {
		conf merged
		pod  string
	}{
		"no namespace":                        {conf, "/nonexistent"},
		"a file that is no namespace":         {conf, "/dev/null"},
		"the pod has the interface":           {conf, pod},
		"a route over an unreachable gateway": {badRoute, nettest.Pod(t)},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := call(t, Add, tt.conf, "x", tt.pod); err == nil {
				t.Error("no error")
			}
			if l := leaseFiles(t, dir); len(l) != 0 {
				t.Errorf("leases left: %v", l)
			}
		})
	}
}

func TestAddAgainAfterTheNamespaceWasKept(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	conf := bridgeNet(dir)
	pod := nettest.Pod(t)
	for range 2 {
		mustAdd(t, conf, "x", pod)
		mustDel(t, conf, "x", pod) // the interfaces stay until the namespace goes
	}
}

func TestBridgeOptions(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	l2 := merged{"cniVersion": "1.0.0", "name": "l2", "type": "bridge", "bridge": "btest1"}
	port := func(t *testing.T, res Result) *netlink.Protinfo {
		l, err := netlink.LinkByName(res.Interfaces[1].Name)
		if err != nil {
			t.Fatal(err)
		}
		info, err := netlink.LinkGetProtinfo(l)
		if err != nil {
			t.Fatal(err)
		}
		return &info
	}
	inPod := func(t *testing.T, pod string) netlink.Link {
		var l netlink.Link
		if err := netns.Do(pod, func() (err error) {
			h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer h.Close()
			l, err = h.LinkByName("eth0")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return l
	}
	for name, tt := range map[string]struct {
		conf merged
		see  func(t *testing.T, res Result, pod string)
	}{
		"plain port": {bridgeNet(dir), func(t *testing.T, res Result, pod string) {
			if p := port(t, res); p.Hairpin || p.Isolated {
				t.Errorf("port %+v", p)
			}
			if mac := inPod(t, pod).Attrs().HardwareAddr.String(); !strings.HasPrefix(mac, "0a:58:0a:4d:00:") {
				t.Errorf("MAC %s is not from the address", mac)
			}
		}},
		"hairpin":   {bridgeNet(dir).with(object{"hairpinMode": true}), func(t *testing.T, res Result, _ string) { _ = port(t, res).Hairpin || fail(t, "no hairpin") }},
		"isolation": {bridgeNet(dir).with(object{"portIsolation": true}), func(t *testing.T, res Result, _ string) { _ = port(t, res).Isolated || fail(t, "not isolated") }},
		"mtu": {bridgeNet(dir).with(object{"mtu": 1400}), func(t *testing.T, res Result, pod string) {
			if mtu := inPod(t, pod).Attrs().MTU; mtu != 1400 {
				t.Errorf("MTU %d", mtu)
			}
		}},
		"mac": {bridgeNet(dir).with(object{"runtimeConfig": object{"mac": "02:11:22:33:44:55"}}), func(t *testing.T, res Result, pod string) {
			if mac := inPod(t, pod).Attrs().HardwareAddr.String(); mac != "02:11:22:33:44:55" || res.Interfaces[2].Mac != mac {
				t.Errorf("MAC %s, result %s", mac, res.Interfaces[2].Mac)
			}
		}},
		"dns": {bridgeNet(dir).with(object{"dns": object{"nameservers": []string{"10.0.0.53"}}}), func(t *testing.T, res Result, _ string) {
			if len(res.DNS.Nameservers) != 1 {
				t.Errorf("DNS %v", res.DNS)
			}
		}},
		"duplicate address detection": {bridgeNet(dir).with(object{"enabledad": true}), func(t *testing.T, res Result, pod string) {
			nettest.Serve(t, pod, "tcp6", ":8080", "pod")
			_, v6 := ips(res)
			if who, _, err := nettest.Ask("", "tcp", netip.AddrPortFrom(v6, 8080).String()); err != nil || who != "pod" {
				t.Errorf("%q, %v", who, err)
			}
		}},
		"no addresses": {l2, func(t *testing.T, res Result, pod string) {
			if inPod(t, pod).Attrs().Flags&net.FlagUp == 0 || len(res.IPs) != 0 {
				t.Errorf("down or with addresses: %v", res)
			}
		}},
		"left down": {l2.with(object{"disableContainerInterface": true}), func(t *testing.T, res Result, pod string) {
			if inPod(t, pod).Attrs().Flags&net.FlagUp != 0 {
				t.Error("up")
			}
		}},
		"promiscuous": {l2.with(object{"promiscMode": true}), func(t *testing.T, res Result, pod string) {
			l, err := netlink.LinkByName("btest1")
			if err != nil || l.Attrs().Promisc == 0 {
				t.Errorf("not promiscuous, %v", err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := nettest.Pod(t)
			res := mustAdd(t, tt.conf, "x", pod)
			defer mustDel(t, tt.conf, "x", pod)
			tt.see(t, res, pod)
		})
	}
}

func fail(t *testing.T, why string) bool { t.Error(why); return false }

func TestBridgeConfiguration(t *testing.T) {
	base := merged{"cniVersion": "1.0.0", "name": "n", "type": "bridge"}
	for name, tt := range map[string]struct {
		more object
		is   func(error) bool
	}{
		"vlan":                   {object{"vlan": 5}, IsUnsupported},
		"vlan trunk":             {object{"vlanTrunk": []object{{"id": 5}}}, IsUnsupported},
		"uplink":                 {object{"uplinkInterface": "eth1"}, IsUnsupported},
		"iptables":               {object{"ipMasqBackend": "iptables"}, IsUnsupported},
		"hairpin and promisc":    {object{"hairpinMode": true, "promiscMode": true}, errdefs.IsInvalidArgument},
		"ipam and no interface":  {object{"disableContainerInterface": true, "ipam": object{"type": "host-local"}}, errdefs.IsInvalidArgument},
		"mtu":                    {object{"mtu": -1}, errdefs.IsInvalidArgument},
		"mac":                    {object{"args": object{"cni": object{"mac": "x"}}}, errdefs.IsInvalidArgument},
		"a type that is another": {object{"mtu": "x"}, errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			for _, command := range []string{Add, Del, Check, GC, Status} {
				if _, err := call(t, command, base.with(tt.more), "x", ""); !tt.is(err) {
					t.Errorf("%s: %v", command, err)
				}
			}
		})
	}
}

func TestBridgeThatIsThereAlready(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "btest0"
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(br); err != nil {
		t.Fatal(err)
	}
	other, err := netlink.ParseAddr("10.66.0.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(br, other); err != nil {
		t.Fatal(err)
	}
	pod := nettest.Pod(t)
	if _, err := call(t, Add, bridgeNet(dir), "x", pod); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("another address is in the way: %v", err)
	}
	forced := bridgeNet(dir).with(object{"forceAddress": true})
	mustAdd(t, forced, "x", pod)
	mustDel(t, forced, "x", pod)
	addrs, err := netlink.AddrList(br, netlink.FAMILY_V4)
	if err != nil || len(addrs) != 1 || addrs[0].IP.String() != "10.77.0.1" {
		t.Errorf("addresses %v, %v", addrs, err)
	}
	notBridge := bridgeNet(dir).with(object{"bridge": "lo"})
	if _, err := call(t, Add, notBridge, "y", nettest.Pod(t)); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("lo as a bridge: %v", err)
	}
}

func TestMACSpoofingIsDropped(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	for _, checked := range []bool{false, true} {
		conf := bridgeNet(dir).with(object{"macspoofchk": checked})
		pod, neighbour := nettest.Pod(t), nettest.Pod(t)
		mustAdd(t, conf, "x", pod)
		to4, _ := ips(mustAdd(t, conf, "y", neighbour))
		nettest.Serve(t, neighbour, "tcp", ":8080", "y")
		to := netip.AddrPortFrom(to4, 8080).String()
		if _, _, err := nettest.Ask(pod, "tcp", to); err != nil {
			t.Errorf("checked %t, own MAC: %v", checked, err)
		}
		if err := netns.Do(pod, func() error {
			h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer h.Close()
			l, err := h.LinkByName("eth0")
			if err != nil {
				return err
			}
			return h.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 9})
		}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := nettest.Ask(pod, "tcp", to); (err != nil) != checked {
			t.Errorf("checked %t, another MAC: %v", checked, err)
		}
		mustDel(t, conf, "x", pod)
		mustDel(t, conf, "y", neighbour)
	}
}

func TestCheckAndGC(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	for _, conf := range []merged{bridgeNet(dir), bridgeNet(dir).with(object{"type": "ptp", "name": "ptp-net"})} {
		pod := nettest.Pod(t)
		res := mustAdd(t, conf, "x", pod)
		checked := conf.with(object{"prevResult": res})
		if _, err := call(t, Check, checked, "x", pod); err != nil {
			t.Errorf("%s: CHECK: %v", conf["type"], err)
		}
		if err := netns.Do(pod, func() error {
			h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer h.Close()
			return h.RouteDel(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: res.IPs[0].Gateway})
		}); err != nil && conf["type"] == "bridge" {
			t.Fatal(err)
		}
		if _, err := call(t, Check, checked, "x", pod); err == nil && conf["type"] == "bridge" {
			t.Error("CHECK without the default route succeeds")
		}
		kept := nettest.Pod(t)
		mustAdd(t, conf, "kept", kept)
		before := hostObjects(t)
		valid := conf.with(object{"cni.dev/valid-attachments": []object{{"containerID": "kept", "ifname": "eth0"}}})
		if _, err := call(t, GC, valid, "", ""); err != nil {
			t.Errorf("%s: GC: %v", conf["type"], err)
		}
		if l := leaseFiles(t, dir); len(l) != 2 {
			t.Errorf("%s: leases after GC: %v", conf["type"], l)
		}
		if after := hostObjects(t); len(before)-len(after) != 2 {
			t.Errorf("%s: GC went from %v to %v", conf["type"], before, after)
		}
		if _, err := call(t, Status, conf, "", ""); err != nil {
			t.Errorf("%s: STATUS: %v", conf["type"], err)
		}
		mustDel(t, conf, "kept", kept)
	}
}

func BenchmarkBridge(b *testing.B) {
	dir := nettest.TempDir(b)
	noLeaks(b, dir)
	conf := bridgeNet(dir)
	first := nettest.Pod(b)
	mustAdd(b, conf, "first", first)
	defer mustDel(b, conf, "first", first)
	// Pods are made and ended in batches outside of the clock: the kernel frees
	// namespaces in the background, under the lock that ADD needs.
	const batch = 50
	for _, timed := range []string{Add, Del} {
		b.Run(timed, func(b *testing.B) {
			var pods []string
			var removes []func()
			end := func() {
				b.StopTimer()
				for i, pod := range pods {
					mustDel(b, conf, fmt.Sprint(i), pod)
					removes[i]()
				}
				time.Sleep(time.Duration(len(pods)) * 10 * time.Millisecond)
				pods, removes = nil, nil
				b.StartTimer()
			}
			for b.Loop() {
				b.StopTimer()
				if len(pods) == batch {
					end()
				}
				pod, remove := nettest.NewPod(b)
				id := fmt.Sprint(len(pods))
				pods, removes = append(pods, pod), append(removes, remove)
				if timed == Add {
					b.StartTimer()
				}
				mustAdd(b, conf, id, pod)
				b.StartTimer()
				if timed == Del {
					mustDel(b, conf, id, pod)
				}
			}
			end()
		})
	}
}
