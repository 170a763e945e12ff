package network

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/berth-cri/berth/cni/nettest"
)

// noLinks fails when the host keeps an interface that it did not have.
func noLinks(t testing.TB) {
	t.Helper()
	nettest.NeedHost(t)
	links := func() (out []string) {
		all, err := netlink.LinkList()
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			t.Fatal(err)
		}
		for _, l := range all {
			if l.Type() != "bridge" {
				out = append(out, l.Attrs().Name)
			}
		}
		return out
	}
	before := links()
	t.Cleanup(func() {
		soon(t, "the pods' links go", func() bool {
			return !slices.ContainsFunc(links(), func(l string) bool { return !slices.Contains(before, l) })
		})
	})
}

// nothingLeft fails when a lease, a record or a cached result is left.
func nothingLeft(t testing.TB, m *Manager) {
	t.Helper()
	for _, pattern := range []string{"networks/*/[0-9f]*", "attachments/*", "results/*"} {
		left, err := filepath.Glob(filepath.Join(m.opts.StateDir, pattern))
		if err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}

func TestBuiltinNetwork(t *testing.T) {
	noLinks(t)
	m := open(t, builtinMode)
	if err := m.Status(t.Context()); err != nil {
		t.Fatalf("status: %v", err)
	}
	a, b := pod(t, "a"), pod(t, "b")
	b.PortMappings = []PortMapping{{HostPort: 18080, ContainerPort: 80, Protocol: "TCP"}, {ContainerPort: 81, Protocol: "TCP"}}
	a.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "100M", "kubernetes.io/egress-bandwidth": "100M"}
	resA, err := m.Setup(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	resB, err := m.Setup(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if resA.Interface != "eth0" || len(resA.IPs) != 2 || !resA.IPs[0].Is4() || !resA.IPs[1].Is6() {
		t.Errorf("result %+v", resA)
	}
	nettest.Serve(t, b.Netns, "tcp", ":80", "b")
	for _, to := range []string{netip.AddrPortFrom(resB.IPs[0], 80).String(), netip.AddrPortFrom(resB.IPs[1], 80).String(), "10.78.0.1:18080"} {
		if who, _, err := nettest.Ask(a.Netns, "tcp", to); err != nil || who != "b" {
			t.Errorf("%s: %q, %v", to, who, err)
		}
	}
	for _, p := range []Pod{a, b} {
		if err := m.Check(t.Context(), p); err != nil {
			t.Errorf("check %s: %v", p.ID, err)
		}
	}
	if got := recorded(t, m); len(got) != 2 || got[0].Pod.Netns != a.Netns || got[0].FromEarlierBoot() {
		t.Errorf("recorded %+v", got)
	}
	for range 2 {
		for _, p := range []Pod{a, b} {
			if err := m.Teardown(t.Context(), p); err != nil {
				t.Errorf("teardown %s: %v", p.ID, err)
			}
		}
	}
	nothingLeft(t, m)
}

func TestTwentyPodsAtOnce(t *testing.T) {
	noLinks(t)
	m := open(t, builtinMode)
	var mu sync.Mutex
	seen := map[netip.Addr]bool{}
	var wg sync.WaitGroup
	for i := range 20 {
		p := pod(t, fmt.Sprint(i))
		p.PortMappings = []PortMapping{{HostPort: int32(18000 + i), ContainerPort: 80, Protocol: "tcp"}}
		wg.Go(func() {
			res, err := m.Setup(t.Context(), p)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			for _, ip := range res.IPs {
				if seen[ip] {
					t.Errorf("%s twice", ip)
				}
				seen[ip] = true
			}
			mu.Unlock()
			if err := m.Teardown(t.Context(), p); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	nothingLeft(t, m)
}

func TestTeardownWithoutTheNamespace(t *testing.T) {
	noLinks(t)
	m := open(t, builtinMode)
	for name, path := range map[string]func(string) string{
		"path of what is gone": func(p string) string { return p },
		"no path":              func(string) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			netns, remove := nettest.NewPod(t)
			p := Pod{ID: "x", Name: "n", Namespace: "ns", UID: "u", Netns: netns}
			if _, err := m.Setup(t.Context(), p); err != nil {
				remove()
				t.Fatal(err)
			}
			remove()
			p.Netns = path(p.Netns)
			if err := m.Teardown(t.Context(), p); err != nil {
				t.Error(err)
			}
			nothingLeft(t, m)
		})
	}
}

func TestLeftoversOfAnEarlierBoot(t *testing.T) {
	noLinks(t)
	m := open(t, builtinMode)
	old, now := pod(t, "old"), pod(t, "now")
	for _, p := range []Pod{old, now} {
		if _, err := m.Setup(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	rec, err := readRecord(m.recordPath("old"))
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, m.recordPath("old"))
	write(t, m.recordPath("old"), replaceOnce(t, text, rec.BootID, "another-boot"))
	if err := m.Leftovers(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := recorded(t, m); len(got) != 1 || got[0].Pod.ID != "now" {
		t.Errorf("recorded %+v, want only the pod of this boot", got)
	}
	if err := m.Teardown(t.Context(), now); err != nil {
		t.Error(err)
	}
	nothingLeft(t, m)
}

func TestBuiltinSubnets(t *testing.T) {
	for name, tt := range map[string]struct {
		subnets []string
		ok      bool
	}{
		"IPv4 only":         {[]string{"10.1.0.0/16"}, true},
		"IPv6 only":         {[]string{"fd01::/64"}, true},
		"two of one family": {[]string{"10.1.0.0/16", "10.2.0.0/16"}, false},
		"host bits":         {[]string{"10.1.0.1/16"}, false},
		"nonsense":          {[]string{"x"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := New(Options{StateDir: t.TempDir(), Settings: Settings{BuiltinNetwork: true, BuiltinSubnets: tt.subnets}})
			if (err == nil) != tt.ok {
				t.Errorf("%v", err)
			}
			if err == nil {
				m.Close()
			}
		})
	}
	if _, err := New(Options{}); err == nil {
		t.Error("without a state directory")
	}
}

func BenchmarkPod(b *testing.B) {
	noLinks(b)
	m := open(b, func(o *Options) {
		builtinMode(o)
		o.StateDir = nettest.TempDir(b)
	})
	var ups, downs []time.Duration
	const batch = 40
	// In batches, so that the kernel's freeing of namespaces, which holds the lock
	// that ADD needs, falls between the measurements.
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		pods, removes := make([]Pod, batch), make([]func(), batch)
		for j := range pods {
			netns, remove := nettest.NewPod(b)
			pods[j] = Pod{ID: fmt.Sprintf("%064d", i*batch+j), Name: "n", Namespace: "ns", UID: "u", Netns: netns}
			removes[j] = remove
		}
		time.Sleep(200 * time.Millisecond)
		b.StartTimer()
		for _, p := range pods {
			start := time.Now()
			if _, err := m.Setup(b.Context(), p); err != nil {
				b.Fatal(err)
			}
			ups = append(ups, time.Since(start))
		}
		for _, p := range pods {
			start := time.Now()
			if err := m.Teardown(b.Context(), p); err != nil {
				b.Fatal(err)
			}
			downs = append(downs, time.Since(start))
		}
		b.StopTimer()
		for _, remove := range removes {
			remove()
		}
		time.Sleep(200 * time.Millisecond)
		b.StartTimer()
	}
	for name, all := range map[string][]time.Duration{"setup": ups, "teardown": downs} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), name+"-p50-µs")
		b.ReportMetric(float64(all[len(all)*9/10].Microseconds()), name+"-p90-µs")
	}
}
