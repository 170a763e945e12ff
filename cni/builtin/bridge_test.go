package builtin

import (
	"fmt"
	"net/netip"
	"testing"

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

func BenchmarkBridge(b *testing.B) {
	dir := b.TempDir()
	noLeaks(b, dir)
	conf := bridgeNet(dir)
	first := nettest.Pod(b)
	mustAdd(b, conf, "first", first)
	defer mustDel(b, conf, "first", first)
	b.Run("add", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			pod, remove := nettest.NewPod(b)
			b.StartTimer()
			mustAdd(b, conf, fmt.Sprint(i), pod)
			b.StopTimer()
			mustDel(b, conf, fmt.Sprint(i), pod)
			remove()
			b.StartTimer()
		}
	})
	b.Run("del", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			pod, remove := nettest.NewPod(b)
			mustAdd(b, conf, fmt.Sprint(i), pod)
			b.StartTimer()
			mustDel(b, conf, fmt.Sprint(i), pod)
			b.StopTimer()
			remove()
			b.StartTimer()
		}
	})
}
