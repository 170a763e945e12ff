package builtin

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
)

// localNet is a host-local configuration; ranges is JSON.
func localNet(dir, ranges string) merged {
	return merged{
		"cniVersion": "1.0.0", "name": "net", "type": "host-local",
		"ipam": object{"type": "host-local", "dataDir": dir, "ranges": json.RawMessage(ranges)},
	}
}

func addresses(res Result) []string {
	var out []string
	for _, ip := range res.IPs {
		out = append(out, fmt.Sprintf("%s via %s", &ip.Address, ip.Gateway))
	}
	return out
}

func TestLeaseFilesAreTheStandardOnes(t *testing.T) {
	dir := t.TempDir()
	conf := localNet(dir, `[[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd01::/64"}]]`)
	res := mustAdd(t, conf, "id", "")
	if got, want := addresses(res), []string{"10.1.0.2/24 via 10.1.0.1", "fd01::2/64 via fd01::1"}; !slices.Equal(got, want) {
		t.Errorf("leased %v, want %v", got, want)
	}
	for name, want := range map[string]string{
		"10.1.0.2":           "id\r\neth0",
		"fd01::2":            "id\r\neth0",
		"last_reserved_ip.0": "10.1.0.2",
		"last_reserved_ip.1": "fd01::2",
		"lock":               "",
	} {
		got, err := os.ReadFile(filepath.Join(dir, "net", name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := call(t, Add, conf, "id", ""); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second ADD: %v", err)
	}
	if _, err := call(t, Check, conf, "id", ""); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	for i := range 2 {
		if _, err := call(t, Del, conf, "id", ""); err != nil {
			t.Errorf("DEL %d: %v", i, err)
		}
	}
	if l := leaseFiles(t, dir); len(l) != 0 {
		t.Errorf("left: %v", l)
	}
	if _, err := call(t, Check, conf, "id", ""); !errdefs.IsNotFound(err) {
		t.Errorf("CHECK after DEL: %v", err)
	}
	// Round robin: not the address that was just freed.
	if got := addresses(mustAdd(t, conf, "id", ""))[0]; got != "10.1.0.3/24 via 10.1.0.1" {
		t.Errorf("next lease %s", got)
	}
}

func TestLeaseOrder(t *testing.T) {
	for _, tt := range []struct {
		name, ranges string
		last         string
		want         []string // one ADD each; the last fails
	}{
		{"the smallest network", `[[{"subnet": "10.1.0.0/30"}]]`, "", []string{"10.1.0.2", ""}},
		{"a part of a subnet", `[[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.10"}]]`, "", []string{"10.1.0.9", "10.1.0.10", ""}},
		{"a gateway in the middle", `[[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.11", "gateway": "10.1.0.10"}]]`, "", []string{"10.1.0.9", "10.1.0.11", ""}},
		{"two ranges of a set", `[[{"subnet": "10.1.0.0/30"}, {"subnet": "10.2.0.0/30"}]]`, "", []string{"10.1.0.2", "10.2.0.2", ""}},
		{"from the last one on", `[[{"subnet": "10.1.0.0/29"}]]`, "10.1.0.5", []string{"10.1.0.6", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", ""}},
		{"a last one of other ranges", `[[{"subnet": "10.1.0.0/29"}]]`, "10.9.9.9", []string{"10.1.0.2"}},
		{"a last one that is garbage", `[[{"subnet": "10.1.0.0/29"}]]`, "x", []string{"10.1.0.2"}},
		{"only a gateway", `[[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.1", "rangeEnd": "10.1.0.1"}]]`, "", []string{""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.last != "" {
				if err := os.MkdirAll(filepath.Join(dir, "net"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "net", "last_reserved_ip.0"), []byte(tt.last), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			conf := localNet(dir, tt.ranges)
			for i, want := range tt.want {
				res, err := call(t, Add, conf, fmt.Sprint(i), "")
				if want == "" {
					if !errdefs.IsResourceExhausted(err) {
						t.Errorf("ADD %d: %v, want exhausted", i, err)
					}
					continue
				}
				if err != nil || res.IPs[0].Address.IP.String() != want {
					t.Errorf("ADD %d: %v, %v; want %s", i, res, err, want)
				}
			}
		})
	}
}

func TestRequestedAddresses(t *testing.T) {
	ranges := `[[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd01::/64"}]]`
	for _, tt := range []struct {
		name string
		more object
		args string
		want []string // nil: refused
	}{
		{"by capability", object{"runtimeConfig": object{"ips": []string{"10.1.0.77/24", "fd01::77"}}}, "", []string{"10.1.0.77/24 via 10.1.0.1", "fd01::77/64 via fd01::1"}},
		{"by args", object{"args": object{"cni": object{"ips": []string{"10.1.0.77"}}}}, "", []string{"10.1.0.77/24 via 10.1.0.1", "fd01::3/64 via fd01::1"}},
		{"by CNI_ARGS", nil, "IgnoreUnknown=1;IP=10.1.0.77", []string{"10.1.0.77/24 via 10.1.0.1", "fd01::3/64 via fd01::1"}},
		{"taken", object{"runtimeConfig": object{"ips": []string{"10.1.0.50"}}}, "", nil},
		{"the gateway", object{"runtimeConfig": object{"ips": []string{"10.1.0.1"}}}, "", nil},
		{"of no range", object{"runtimeConfig": object{"ips": []string{"10.2.0.9"}}}, "", nil},
		{"two of one range", object{"runtimeConfig": object{"ips": []string{"10.1.0.8", "10.1.0.9"}}}, "", nil},
		{"no address", object{"runtimeConfig": object{"ips": []string{"x"}}}, "", nil},
		{"a range by capability", object{"runtimeConfig": object{"ipRanges": json.RawMessage(`[[{"subnet": "10.9.0.0/24"}]]`)}}, "",
			[]string{"10.9.0.2/24 via 10.9.0.1", "10.1.0.2/24 via 10.1.0.1", "fd01::3/64 via fd01::1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			mustAdd(t, localNet(dir, ranges).with(object{"runtimeConfig": object{"ips": []string{"10.1.0.50"}}}), "other", "")
			if err := os.Remove(filepath.Join(dir, "net", "last_reserved_ip.0")); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, "net", "last_reserved_ip.1")); err != nil {
				t.Fatal(err)
			}
			before := leaseFiles(t, dir)
			res, err := hostLocal(t.Context(), Request{Command: Add, ContainerID: "id", IfName: "eth0", Args: tt.args, Config: encodeConf(t, localNet(dir, ranges).with(tt.more))})
			if tt.want == nil {
				if err == nil {
					t.Errorf("got %v", addresses(res))
				}
				if after := leaseFiles(t, dir); !slices.Equal(before, after) {
					t.Errorf("a refused ADD left %v", after)
				}
				return
			}
			if err != nil || !slices.Equal(addresses(res), tt.want) {
				t.Errorf("got %v, %v; want %v", res, err, tt.want)
			}
		})
	}
}

func TestConcurrentLeases(t *testing.T) {
	conf := localNet(t.TempDir(), `[[{"subnet": "10.1.0.0/24"}]]`)
	var mu sync.Mutex
	got := map[string]string{}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			id := fmt.Sprint(i)
			res, err := call(t, Add, conf, id, "")
			if err != nil {
				t.Error(err)
				return
			}
			ip := res.IPs[0].Address.IP.String()
			mu.Lock()
			defer mu.Unlock()
			if other, ok := got[ip]; ok {
				t.Errorf("%s went to %s and %s", ip, other, id)
			}
			got[ip] = id
		})
	}
	wg.Wait()
}

func TestLeasesOfOthers(t *testing.T) {
	dir := t.TempDir()
	conf := localNet(dir, `[[{"subnet": "10.1.0.0/24"}]]`)
	mustAdd(t, conf, "ours", "") // 10.1.0.2; the memory of holders is warm now
	write := func(name, holder string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "net", name), []byte(holder), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("10.1.0.3", "theirs\r\neth0")
	write("10.1.0.4", "") // a killed writer's
	write("10.1.0.5", "old-format")
	if got := addresses(mustAdd(t, conf, "next", ""))[0]; !strings.HasPrefix(got, "10.1.0.4/") {
		t.Errorf("leased %s, want the killed writer's 10.1.0.4", got)
	}
	if _, err := call(t, Check, conf, "theirs", ""); err != nil {
		t.Errorf("a lease of another program is not seen: %v", err)
	}
	mustDel(t, conf, "old-format", "")
	mustDel(t, conf, "theirs", "")
	if got, want := leaseFiles(t, dir), []string{"net/10.1.0.2", "net/10.1.0.4"}; !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
	_, err := call(t, GC, conf.with(object{"cni.dev/valid-attachments": []object{{"containerID": "next", "ifname": "eth0"}}}), "", "")
	if got := leaseFiles(t, dir); err != nil || !slices.Equal(got, []string{"net/10.1.0.4"}) {
		t.Errorf("after GC: %v, %v", got, err)
	}
}

func TestHostLocalConfiguration(t *testing.T) {
	for name, tt := range map[string]struct{ conf, want string }{
		"no ranges":            {`{"name": "n", "ipam": {}}`, "no IP ranges"},
		"a name that is a way": {`{"name": "../n", "ipam": {"subnet": "10.1.0.0/24"}}`, "network name"},
		"host bits":            {`{"name": "n", "ipam": {"subnet": "10.1.0.3/24"}}`, "host bits"},
		"too small":            {`{"name": "n", "ipam": {"subnet": "10.1.0.0/31"}}`, "too small"},
		"start outside":        {`{"name": "n", "ipam": {"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}}`, "rangeStart"},
		"end outside":          {`{"name": "n", "ipam": {"subnet": "10.1.0.0/24", "rangeEnd": "10.2.0.1"}}`, "rangeEnd"},
		"end before start":     {`{"name": "n", "ipam": {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8"}}`, "after"},
		"mixed families":       {`{"name": "n", "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]}}`, "mixed"},
		"overlap in a set":     {`{"name": "n", "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/16"}]]}}`, "overlaps"},
		"overlap of sets":      {`{"name": "n", "cniVersion": "1.0.0", "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/24"}]]}}`, "overlaps"},
		"empty set":            {`{"name": "n", "ipam": {"ranges": [[]]}}`, "empty"},
		"two of a family, old": {`{"name": "n", "cniVersion": "0.2.0", "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]}}`, "more than one"},
		"not JSON":             {`{`, "unexpected end"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseHostLocal([]byte(tt.conf), "")
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want one about %q", err, tt.want)
			}
		})
	}
}

func TestResolvConf(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "resolv.conf")
	text := "# c\n; c\nnameserver 10.0.0.53\nnameserver\ndomain d.example\nsearch a.example b.example\noptions ndots:5\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := localNet(dir, `[[{"subnet": "10.1.0.0/24"}]]`)
	conf["ipam"].(object)["resolvConf"] = file
	conf["ipam"].(object)["routes"] = []object{{"dst": "0.0.0.0/0"}}
	res := mustAdd(t, conf, "id", "")
	if got := fmt.Sprint(res.DNS); got != "{[10.0.0.53] d.example [a.example b.example] [ndots:5]}" {
		t.Errorf("DNS %s", got)
	}
	if len(res.Routes) != 1 {
		t.Errorf("routes %v", res.Routes)
	}
}

func FuzzHostLocalConfiguration(f *testing.F) {
	f.Add([]byte(`{"name": "n", "ipam": {"ranges": [[{"subnet": "10.1.0.0/30", "gateway": "10.1.0.3"}]]}}`), "IP=10.1.0.2")
	f.Add([]byte(`{"name": "n", "ipam": {"subnet": "::ffff:10.0.0.0/120", "rangeStart": "::"}}`), "")
	f.Fuzz(func(t *testing.T, b []byte, args string) {
		c, err := parseHostLocal(b, args)
		if err != nil {
			return
		}
		for _, set := range c.sets {
			for _, r := range set {
				if !r.subnet.Contains(r.first) || !r.subnet.Contains(r.last) || r.last.Less(r.first) {
					t.Errorf("range %v", r)
				}
			}
		}
	})
}
