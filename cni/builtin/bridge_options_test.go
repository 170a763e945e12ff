package builtin

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/cni/netns"
	"github.com/berth-cri/berth/cni/nettest"
)

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
