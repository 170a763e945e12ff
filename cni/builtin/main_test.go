package builtin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/berth-cri/berth/cni/nettest"
)

func TestMain(m *testing.M) { nettest.Main(m) }

type object = map[string]any

// with is a copy of an object with other values.
func (o merged) with(more object) merged {
	out := maps.Clone(o)
	maps.Copy(out, more)
	return out
}

type merged object

func bridgeNet(leaseDir string) merged {
	return merged{
		"cniVersion": "1.0.0", "name": "test-net", "type": "bridge", "bridge": "btest0",
		"isDefaultGateway": true, "ipMasq": true,
		"ipam": object{"type": "host-local", "dataDir": leaseDir, "ranges": []any{
			[]any{object{"subnet": "10.77.0.0/24"}},
			[]any{object{"subnet": "fd77::/64"}},
		}},
	}
}

func encodeConf(t testing.TB, conf merged) []byte {
	t.Helper()
	b, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// call runs a plugin of the configuration's type.
func call(t testing.TB, command string, conf merged, id, pod string) (Result, error) {
	t.Helper()
	plugin, ok := Lookup(conf["type"].(string))
	if !ok {
		t.Fatalf("no plugin %v", conf["type"])
	}
	return plugin(context.Background(), Request{Command: command, ContainerID: id, Netns: pod, IfName: "eth0", Config: encodeConf(t, conf)})
}

func mustAdd(t testing.TB, conf merged, id, pod string) Result {
	t.Helper()
	res, err := call(t, Add, conf, id, pod)
	if err != nil {
		t.Fatalf("ADD %s: %v", id, err)
	}
	return res
}

func mustDel(t testing.TB, conf merged, id, pod string) {
	t.Helper()
	if _, err := call(t, Del, conf, id, pod); err != nil {
		t.Fatalf("DEL %s: %v", id, err)
	}
}

func ips(res Result) (v4, v6 netip.Addr) {
	for _, ip := range res.IPs {
		if a := addr(ip.Address.IP); a.Is4() {
			v4 = a
		} else {
			v6 = a
		}
	}
	return v4, v6
}

// noLeaks fails when, after the test, the host has links or set elements that it
// did not have. Bridges stay by design; the test's are deleted here.
func noLeaks(t testing.TB, leaseDirs ...string) {
	t.Helper()
	nettest.NeedHost(t)
	before := hostObjects(t)
	t.Cleanup(func() {
		var left []string
		// The kernel has one worker for all namespaces of the machine that end.
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			left = slices.DeleteFunc(hostObjects(t), func(o string) bool { return slices.Contains(before, o) || strings.HasPrefix(o, "bridge ") })
			if len(left) == 0 {
				break
			}
		}
		if len(left) > 0 {
			t.Errorf("leaked: %v", left)
		}
		for _, dir := range leaseDirs {
			if l := leaseFiles(t, dir); len(l) > 0 {
				t.Errorf("leases left: %v", l)
			}
		}
		links, _ := netlink.LinkList()
		for _, l := range links {
			if l.Type() == "bridge" {
				_ = netlink.LinkDel(l)
			}
		}
		c, _ := nftables.New()
		c.FlushRuleset()
		_ = c.Flush()
	})
}

func hostObjects(t testing.TB) []string {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Fatal(err)
	}
	var out []string
	for _, l := range links {
		out = append(out, l.Type()+" "+l.Attrs().Name)
	}
	sets := slices.Concat(masqRules.sets, portRules.sets, spoofRules.sets)
	for _, s := range sets {
		all, err := elements(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if e.Comment != "" { // without one: the guard of a bridge
				out = append(out, fmt.Sprintf("element %s %s %x", s.Name, e.Comment, e.Key))
			}
		}
	}
	return out
}

func leaseFiles(t testing.TB, dir string) []string {
	t.Helper()
	nets, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, n := range nets {
		files, _ := os.ReadDir(dir + "/" + n.Name())
		for _, f := range files {
			if _, err := netip.ParseAddr(f.Name()); err == nil {
				out = append(out, n.Name()+"/"+f.Name())
			}
		}
	}
	return out
}
