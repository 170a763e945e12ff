package builtin

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

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
