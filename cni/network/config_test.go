package network

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
)

func names(m *Manager) string {
	var out []string
	for _, n := range m.Describe().Networks {
		out = append(out, n.Name)
	}
	return strings.Join(out, " ")
}

func TestWhichFilesAreUsed(t *testing.T) {
	good := func(name string) string { return conflist("1.0.0", name, "dummy") }
	for name, tt := range map[string]struct {
		files    map[string]string
		max      int
		want     string
		problems int
	}{
		"nothing":               {nil, 1, "", 0},
		"the first by name":     {map[string]string{"20-a.conflist": good("a"), "10-b.conflist": good("b")}, 1, "b", 0},
		"all":                   {map[string]string{"20-a.conflist": good("a"), "10-b.conf": `{"name": "b", "type": "dummy"}`}, -1, "b a", 0},
		"other files":           {map[string]string{"10-a.bak": good("a"), "10-a.conflist~": good("a")}, 1, "", 0},
		"a bad one first":       {map[string]string{"10-a.conflist": "{", "20-b.conflist": good("b")}, 1, "b", 1},
		"a list named conf":     {map[string]string{"10-a.conf": good("a"), "20-b.json": `{"name": "b", "type": "dummy"}`}, 1, "b", 1},
		"no plugins":            {map[string]string{"10-a.conflist": `{"name": "a", "plugins": []}`}, 1, "", 1},
		"no plugins key":        {map[string]string{"10-a.conflist": `{"name": "a"}`}, 1, "", 1},
		"no name":               {map[string]string{"10-a.conflist": good("")}, 1, "", 1},
		"a name that is a path": {map[string]string{"10-a.conflist": good("../a")}, 1, "", 1},
		"an unknown version":    {map[string]string{"10-a.conflist": conflist("9.0.0", "a", "dummy")}, 1, "", 1},
		"one name twice":        {map[string]string{"10-a.conflist": good("a"), "20-a.conflist": good("a")}, 2, "a", 1},
		"too large":             {map[string]string{"10-a.conflist": good("a") + strings.Repeat(" ", maxConf)}, 1, "", 1},
		"plugins in files":      {map[string]string{"10-a.conflist": `{"name": "a", "cniVersion": "1.0.0"}`, "a/10.conf": `{"type": "dummy"}`}, 1, "a", 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range tt.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, file), text)
			}
			l := load(dir, tt.max)
			if got := strings.Join(l.names, " "); got != tt.want || len(l.problems) != tt.problems {
				t.Errorf("networks %q, problems %v; want %q and %d", got, l.problems, tt.want, tt.problems)
			}
			for _, n := range l.networks {
				if again, err := parseConfList(n.Bytes, ""); err != nil || len(again.Plugins) != len(n.Plugins) {
					t.Errorf("what is recorded is not what was read: %v, %v", again, err)
				}
			}
		})
	}
}

func TestConfigurationComesAndGoes(t *testing.T) {
	m := open(t, nil)
	m.script(t, "dummy", "")
	status := func() string {
		if err := m.Status(context.Background()); err != nil {
			return err.Error()
		}
		return ""
	}
	want := "cni plugin not initialized: no network config found in " + m.using.Load().ConfDir
	if got := status(); !strings.HasPrefix(got, want) || !errdefs.IsUnavailable(m.Status(context.Background())) {
		t.Errorf("status %q", got)
	}
	if _, err := m.Setup(t.Context(), Pod{ID: "x"}); !errdefs.IsUnavailable(err) {
		t.Errorf("Setup without a network: %v", err)
	}
	m.writeConf(t, "20.conflist", conflist("1.0.0", "a", "dummy"))
	soon(t, "a file that comes", func() bool { return status() == "" && names(m) == "a" })
	m.writeConf(t, "10.conflist", conflist("1.0.0", "b", "dummy"))
	soon(t, "a better one", func() bool { return names(m) == "b" })
	m.writeConf(t, "10.conflist", "{")
	soon(t, "a bad one", func() bool { return names(m) == "a" && len(m.Describe().Problems) == 1 })
	if got := status(); got != "" {
		t.Errorf("a bad file beside a good one: %s", got)
	}
	for _, dir := range []string{m.using.Load().ConfDir, filepath.Dir(m.using.Load().ConfDir)} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		soon(t, "the directory goes", func() bool { return strings.HasPrefix(status(), want) })
		if err := os.MkdirAll(m.using.Load().ConfDir, 0o755); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		m.writeConf(t, "10.conflist", conflist("1.0.0", "c", "dummy"))
		soon(t, "it comes back", func() bool { return status() == "" && names(m) == "c" })
		// And the new directory is watched like the old one.
		m.writeConf(t, "05.conflist", conflist("1.0.0", "d", "dummy"))
		soon(t, "a change in the new directory", func() bool { return names(m) == "d" })
	}
}

func TestBadConfigurationIsInTheStatus(t *testing.T) {
	m := open(t, nil)
	m.writeConf(t, "10.conflist", `{"name": 5}`)
	soon(t, "the bad file is reported", func() bool {
		err := m.Status(context.Background())
		return err != nil && strings.Contains(err.Error(), "10.conflist")
	})
}

func TestStatusVerb(t *testing.T) {
	m := open(t, nil)
	gate := filepath.Join(t.TempDir(), "gate")
	// Until the gate is there STATUS hangs, then it answers what is in the gate.
	m.script(t, "dummy", `test $CNI_COMMAND != STATUS || { while ! test -e `+gate+`; do sleep 0.05; done; cat `+gate+`; test -s `+gate+` && exit 1; }; exit 0`)
	m.writeConf(t, "10.conflist", conflist("1.1.0", "test", "dummy"))
	m.reload(m.using.Load())
	for range 20 {
		start := time.Now()
		if err := m.Status(t.Context()); err == nil {
			t.Fatal("ready before the plugin said so")
		}
		if d := time.Since(start); d > 20*time.Second { // the plugin hangs
			t.Errorf("Status took %s", d)
		}
	}
	write(t, gate, `{"code": 50, "msg": "no address server"}`)
	soon(t, "the plugin's answer", func() bool {
		err := m.Status(t.Context())
		return errdefs.IsUnavailable(err) && strings.Contains(err.Error(), "no address server")
	})
	write(t, gate, "")
	soon(t, "the plugin is well", func() bool { return m.Status(t.Context()) == nil })
}

func TestPodCIDRTemplate(t *testing.T) {
	template := filepath.Join(t.TempDir(), "template")
	write(t, template, `{"cniVersion": "1.0.0", "name": "templated", "plugins": [{"type": "dummy", "ipam": {
		"subnet": "{{.PodCIDR}}",
		"ranges": [{{range $i, $r := .PodCIDRRanges}}{{if $i}}, {{end}}[{"subnet": "{{$r}}"}]{{end}}],
		"routes": [{{range $i, $r := .Routes}}{{if $i}}, {{end}}{"dst": "{{$r}}"}{{end}}]}}]}`)
	m := open(t, func(o *Options) { o.ConfTemplate = template })
	if err := m.SetPodCIDR([]string{"x"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("nonsense: %v", err)
	}
	for _, cidrs := range [][]string{{"10.5.0.0/24", "fd05::/64"}, {"10.6.0.0/24"}} { // a new one replaces it
		if err := m.SetPodCIDR(cidrs); err != nil {
			t.Fatal(err)
		}
		nets := m.Describe().Networks
		if len(nets) != 1 || !strings.Contains(string(nets[0].Bytes), fmt.Sprintf("%q", cidrs[0])) {
			t.Errorf("networks %v", nets)
		}
	}
	other := open(t, func(o *Options) { o.ConfTemplate = template })
	withNetwork(t, other, "50.conflist", conflist("1.0.0", "theirs", "dummy"))
	if err := other.SetPodCIDR([]string{"10.5.0.0/24"}); err != nil || names(other) != "theirs" {
		t.Errorf("over a network that is there: %s, %v", names(other), err)
	}
	if err := open(t, nil).SetPodCIDR([]string{"10.5.0.0/24"}); err != nil {
		t.Errorf("without a template: %v", err)
	}
}

func TestGCOnlyWhenConfigured(t *testing.T) {
	for _, on := range []bool{false, true} {
		m := open(t, func(o *Options) { o.GC = on })
		notes := m.script(t, "dummy", addResult)
		withNetwork(t, m, "10.conflist", conflist("1.1.0", "test", "dummy"))
		p := pod(t, "x")
		if _, err := m.Setup(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if err := m.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(notes + "/GC.in")
		if (err == nil) != on {
			t.Errorf("configured %t: %v", on, err)
		}
		if on {
			if got := fmt.Sprint(readJSON(t, notes+"/GC.in")["cni.dev/valid-attachments"]); got != "[map[containerID:x ifname:eth0]]" {
				t.Errorf("valid attachments %s", got)
			}
		}
		if err := m.Teardown(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]uint64{
		"1k": 1000, "1000": 1000, "10M": 1e7, "1.5M": 15e5, "1Ki": 1024, "1Gi": 1 << 30, "1P": 1e15, "1e6": 1e6, "1E3": 1000,
		"1000.5": 1001, "999": 0, "1.1P": 0, "2E": 0, "": 0, "M": 0, "x": 0, "-5M": 0, "5m": 0, "5 M": 0, "1e999": 0,
		"1/2M": 0, "0x10M": 0, "1_000M": 0, "10MM": 0, "NaN": 0, "Inf": 0,
	} {
		got, err := parseRate(text)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
}

func FuzzRate(f *testing.F) {
	f.Add("1.5Mi")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseRate(text); err == nil && (n < minRate || n > maxRate) {
			t.Errorf("%q: %d", text, n)
		}
	})
}

func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(conflist("1.0.0", "n", "a", "b")))
	f.Add([]byte(`{"name": "n", "cniVersions": ["1.0.0"], "plugins": [{"type": "x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func() error{
			func() error { l, err := parseConfList(b, ""); _ = l; return err },
			func() error { l, err := parseConf(b); _ = l; return err },
		} {
			_ = parse()
		}
		l, err := parseConfList(b, "")
		if err != nil {
			return
		}
		if _, err := parseConfList(l.Bytes, ""); err != nil {
			t.Errorf("not readable again: %v", err)
		}
	})
}

func FuzzResult(f *testing.F) {
	f.Add([]byte(`{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}], "ips": [{"address": "10.0.0.1/24", "interface": 0}]}`))
	f.Add([]byte(`{"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.1/24"}}`))
	f.Add([]byte(`{"cniVersion": "1.0.0", "interfaces": [null], "ips": [null, {"address": "::/0", "interface": -1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkResult(b) != nil {
			return
		}
		res, err := create.CreateFromBytes(b)
		if err != nil {
			return
		}
		if _, err := current.GetResult(res); err != nil {
			return
		}
		out, err := newResult(res, "eth0")
		if err == nil && len(out.IPs) == 0 {
			t.Error("no addresses and no error")
		}
	})
}

func FuzzPluginError(f *testing.F) {
	f.Add([]byte(`{"code": 7, "msg": "m"}`), "stderr")
	f.Fuzz(func(t *testing.T, stdout []byte, stderr string) {
		if err := pluginError(stdout, stderr, os.ErrInvalid); err == nil {
			t.Error("no error")
		}
	})
}
