package builtin

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berth-cri/berth/cni/netns"
	"github.com/berth-cri/berth/cni/nettest"
)

func bandwidthNet(prev Result, limits object) merged {
	m := merged{"cniVersion": "1.0.0", "name": "test-net", "type": "bandwidth", "runtimeConfig": object{"bandwidth": limits}}
	if prev != nil {
		m["prevResult"] = prev
	}
	return m
}

// transfer sends bytes from one namespace to a listener in another.
func transfer(t *testing.T, from, to, address string, size int64) time.Duration {
	t.Helper()
	received := make(chan int64, 1)
	if err := netns.Do(to, func() error {
		l, err := net.Listen("tcp", ":9000")
		if err != nil {
			return err
		}
		go func() {
			defer l.Close()
			c, err := l.Accept()
			if err != nil {
				received <- 0
				return
			}
			n, _ := io.Copy(io.Discard, c)
			// Without a goodbye: one that waits to be acknowledged, while the link
			// goes down, would keep the namespace for a minute.
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
			received <- n
		}()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	send := func() error {
		c, err := net.Dial("tcp", net.JoinHostPort(address, "9000"))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.CopyN(c, zeros{}, size)
		return err
	}
	if err := netns.Do(from, send); err != nil {
		t.Fatal(err)
	}
	if n := <-received; n != size {
		t.Errorf("%d of %d bytes arrived", n, size)
	}
	return time.Since(start)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestBandwidth(t *testing.T) {
	dir := t.TempDir()
	noLeaks(t, dir)
	conf := bridgeNet(dir)
	limited, other := nettest.Pod(t), nettest.Pod(t)
	res, resOther := mustAdd(t, conf, "limited", limited), mustAdd(t, conf, "other", other)
	defer mustDel(t, conf, "limited", limited)
	defer mustDel(t, conf, "other", other)
	// 8 Mbit/s are 1 MB/s: 600 KB over a burst of 100 KB take half a second.
	bw := bandwidthNet(res, object{"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000})
	withIFB := mustAdd(t, bw, "limited", limited)
	if n := len(withIFB.Interfaces); n != 4 || !strings.HasPrefix(withIFB.Interfaces[3].Name, "bwp") {
		t.Errorf("interfaces %v", withIFB.Interfaces)
	}
	if _, err := call(t, Check, bw, "limited", limited); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	to, _ := ips(res)
	back, _ := ips(resOther)
	for name, way := range map[string]struct {
		from, to string
		address  netip.Addr
	}{"ingress": {other, limited, to}, "egress": {limited, other, back}} {
		// Only that it is limited at all: a loaded machine may take longer.
		if d := transfer(t, way.from, way.to, way.address.String(), 600_000); d < 300*time.Millisecond {
			t.Errorf("%s: 600 KB in %s", name, d)
		}
	}
	for range 2 {
		mustDel(t, bw, "limited", "")
	}
	if _, err := call(t, Check, bw, "limited", limited); err == nil {
		t.Error("CHECK after DEL succeeds")
	}
}

func TestBandwidthConfiguration(t *testing.T) {
	nettest.NeedHost(t)
	for name, tt := range map[string]struct {
		limits object
		is     func(error) bool
	}{
		"rate without burst": {object{"ingressRate": 1000}, errdefs.IsInvalidArgument},
		"burst without rate": {object{"egressBurst": 1000}, errdefs.IsInvalidArgument},
		"burst too large":    {object{"egressRate": 1000, "egressBurst": uint64(1) << 36}, errdefs.IsInvalidArgument},
		"not chained":        {object{"egressRate": 1000, "egressBurst": 1000}, errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := call(t, Add, bandwidthNet(nil, tt.limits), "x", ""); !tt.is(err) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := call(t, Add, bandwidthNet(nil, nil).with(object{"shapedSubnets": []string{"10.0.0.0/8"}}), "x", ""); !IsUnsupported(err) {
		t.Errorf("shaped subnets: %v", err)
	}
	if _, err := call(t, Del, bandwidthNet(nil, nil), "x", ""); err != nil {
		t.Errorf("DEL without limits: %v", err)
	}
}
