package builtin

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/berth-cri/berth/cni/nettest"
)

// leave puts an element of masquerading there that nobody will take away.
func leave(t *testing.T, subnet netip.Prefix, by string) {
	t.Helper()
	if err := masquerade([]netip.Prefix{subnet}, by); err != nil {
		t.Fatal(err)
	}
}

func masqueradedBy(t *testing.T, a netip.Addr) (by, verdict string) {
	t.Helper()
	set, _ := masqSet(a)
	all, err := elements(set)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if slices.Equal(e.Key, a.AsSlice()) {
			return e.Comment, string(e.Val)
		}
	}
	return "", ""
}

func TestMasqueradeReplacesWhatWasLeft(t *testing.T) {
	noLeaks(t)
	a := netip.MustParsePrefix("10.9.0.7/24")
	for situation, left := range map[string]netip.Prefix{
		"nothing":                    {},
		"the same of another":        a,
		"the address in another net": netip.MustParsePrefix("10.9.0.7/16"),
	} {
		if left.IsValid() {
			leave(t, left, "net dead eth0")
		}
		if err := masquerade([]netip.Prefix{a}, "net new eth0"); err != nil {
			t.Errorf("%s: %v", situation, err)
		}
		if by, verdict := masqueradedBy(t, a.Addr()); by != "net new eth0" || !strings.Contains(verdict, masqChain(a)) {
			t.Errorf("%s: is of %q, goes to %q", situation, by, verdict)
		}
		if err := unmasquerade([]netip.Prefix{a}, "net new eth0"); err != nil {
			t.Error(err)
		}
	}
}

func TestRemoveDead(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	conf := bridgeNet(dir)
	pod := nettest.Pod(t)
	res := mustAdd(t, conf, "alive", pod)
	defer mustDel(t, conf, "alive", pod)
	v4, v6 := ips(res)

	dead := owner("test", "dead", "eth0")
	leave(t, netip.MustParsePrefix("10.9.0.7/24"), dead)
	leave(t, netip.MustParsePrefix("fd09::7/64"), dead)
	// Nobody can tell whose interface this is.
	leave(t, netip.MustParsePrefix("10.9.0.8/24"), owner(strings.Repeat("long", 20), "unknown", "eth0"))
	port := func(n uint16, by string) {
		t.Helper()
		set, key := ports4.portKey(hostPort{protocol: 6, host: n, pod: 80})
		err := portRules.apply(func(c *nftables.Conn) error {
			return c.SetAddElements(set, []nftables.SetElement{{Key: key, Val: target(netip.MustParseAddr("10.9.0.7"), 80), Comment: by}})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	port(80, dead)
	port(81, "calico other eth0") // its host end has a name of its own
	defer removeWhere(portRules.sets, func(by string) bool { return by == "calico other eth0" })
	if err := pinMAC("veth-gone", "02:00:00:00:00:01", dead); err != nil {
		t.Fatal(err)
	}

	removed, err := RemoveDead()
	if err != nil || removed != 5 {
		t.Errorf("removed %d, %v; want two addresses, a port and two of the MAC", removed, err)
	}
	for _, a := range []netip.Addr{v4, v6, netip.MustParseAddr("10.9.0.8")} {
		if by, _ := masqueradedBy(t, a); by == "" {
			t.Errorf("%s is not masqueraded any more", a)
		}
	}
	if all, _ := elements(ports4.any); len(all) != 1 {
		t.Errorf("host ports: %+v", all)
	}
	if again, err := RemoveDead(); err != nil || again != 0 {
		t.Errorf("the second time: %d, %v", again, err)
	}
	removeWhere(masqRules.sets, func(by string) bool { return strings.HasSuffix(by, "unknown eth0") })
}

func TestRemoveUnused(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	conf := bridgeNet(dir)
	pod := nettest.Pod(t)
	mustAdd(t, conf, "a", pod)
	if err := RemoveUnused("btest0", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName("btest0"); err != nil {
		t.Error("a bridge in use:", err)
	}
	mustDel(t, conf, "a", pod)
	l, err := netlink.LinkByName("btest0")
	if err != nil {
		t.Fatal(err)
	}
	// The host end goes with the namespace, in the kernel's own time.
	links, _ := netlink.LinkList()
	for _, p := range links {
		if p.Attrs().MasterIndex == l.Attrs().Index {
			netlink.LinkDel(p)
		}
	}
	if err := RemoveUnused("btest0", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName("btest0"); err == nil {
		t.Error("the bridge is still there")
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil || len(tables) != 0 {
		t.Errorf("tables left: %v, %v", tables, err)
	}
}
