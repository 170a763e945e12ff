package nettest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/cni/netns"
	"github.com/berth-cri/berth/linux/namespace"
)

// patience is how long an answer may take. Packets that are dropped take it all.
const patience = 2 * time.Second

const inside = "BERTH_NETTEST"

// Main runs the tests of a package in new network and mount namespaces, which
// are the "host" for everything below. For TestMain.
func Main(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run()) // NeedHost skips
	}
	if os.Getenv(inside) != "" {
		if err := namespace.LoopbackUp(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "re-run in a network namespace:", err)
	os.Exit(1)
}

// NeedHost skips a test that Main could not give a network.
func NeedHost(t testing.TB) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("needs root to make network namespaces")
	}
}

// Pod pins a network namespace as a pod's, with lo up.
func Pod(t testing.TB) string {
	t.Helper()
	path, remove := NewPod(t)
	t.Cleanup(remove)
	return path
}

// NewPod is Pod for a caller that ends the namespace itself.
func NewPod(t testing.TB) (path string, remove func()) {
	t.Helper()
	NeedHost(t)
	dir, err := os.MkdirTemp(t.TempDir(), "pod")
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "ns")
	pins, err := namespace.Pin(dir, []namespace.Kind{namespace.Net}, namespace.LoopbackUp)
	if err != nil {
		t.Fatal(err)
	}
	return pins[namespace.Net], func() {
		if err := namespace.Unpin(dir); err != nil {
			t.Error(err)
		}
	}
}

// TempDir is a directory on a tmpfs, where state lies and no disk is measured.
func TempDir(t testing.TB) string {
	t.Helper()
	NeedHost(t)
	dir := t.TempDir()
	if err := unix.Mount("nettest", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Outside is a namespace beyond the host: 192.0.2.2 and fd99::2 behind the host's
// 192.0.2.1 and fd99::1. It knows no way back to the pods' own addresses.
func Outside(t testing.TB) string {
	t.Helper()
	path := Pod(t)
	fail := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	ns, err := netns.Open(path)
	fail(err)
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "outside"
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns.Fd())}
	fail(netlink.LinkAdd(veth))
	t.Cleanup(func() { _ = netlink.LinkDel(veth) })
	up := func(name string, addrs ...string) error {
		// The link-local address too has to be of use at once.
		if err := namespace.SetSysctl("net/ipv6/conf/"+name+"/accept_dad", "0"); err != nil {
			return err
		}
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		l, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		for _, text := range addrs {
			a, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			if a.IP.To4() == nil {
				a.Flags = unix.IFA_F_NODAD
			}
			if err := h.AddrAdd(l, a); err != nil {
				return err
			}
		}
		return h.LinkSetUp(l)
	}
	fail(up("outside", "192.0.2.1/24", "fd99::1/64"))
	fail(ns.Do(func() error { return up("eth0", "192.0.2.2/24", "fd99::2/64") }))
	return path
}

// RouteLoopbackTo makes a pod send what goes to 127.0.0.1 to a gateway instead,
// as an attacker with CAP_NET_ADMIN in it would.
func RouteLoopbackTo(t testing.TB, pod, gateway string) {
	t.Helper()
	err := in(pod, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		l, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		loopback := &net.IPNet{IP: net.IPv4(127, 0, 0, 0), Mask: net.CIDRMask(8, 32)}
		if err := h.AddrDel(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: loopback.Mask}}); err != nil {
			return err
		}
		if err := namespace.SetSysctl("net/ipv4/conf/eth0/route_localnet", "1"); err != nil {
			return err
		}
		return h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: loopback, Gw: net.ParseIP(gateway)})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// in runs fn in a pod, or on the host for "".
func in(path string, fn func() error) error {
	if path == "" {
		return fn()
	}
	return netns.Do(path, fn)
}

// Serve answers on a TCP or UDP address of a pod ("" is the host) with name and
// the client's address, until the test ends.
func Serve(t testing.TB, pod, network, address, name string) {
	t.Helper()
	err := in(pod, func() error {
		if strings.HasPrefix(network, "udp") {
			c, err := net.ListenPacket(network, address)
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			go serveUDP(c, name)
			return nil
		}
		l, err := net.Listen(network, address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go serveTCP(l, name)
		return nil
	})
	if err != nil {
		t.Fatalf("serve on %s: %v", address, err)
	}
}

func serveTCP(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprintf(c, "%s %s\n", name, c.RemoteAddr())
		c.Close()
	}
}

func serveUDP(c net.PacketConn, name string) {
	buf := make([]byte, 64)
	for {
		_, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(fmt.Appendf(nil, "%s %s\n", name, from), from)
	}
}

// Ask connects from a pod ("" is the host) and returns the name that answers and
// the address that it saw.
func Ask(pod, network, address string) (name, from string, err error) {
	return AskFrom(pod, network, "", address)
}

// AskFrom is Ask from a local UDP address, "" for any.
func AskFrom(pod, network, local, address string) (name, from string, err error) {
	err = in(pod, func() error {
		d := net.Dialer{Timeout: patience}
		if local != "" {
			a, err := net.ResolveUDPAddr(network, local)
			if err != nil {
				return err
			}
			d.LocalAddr = a
		}
		c, err := d.Dial(network, address)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if strings.HasPrefix(network, "udp") {
			if _, err := io.WriteString(c, "?"); err != nil {
				return err
			}
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			return err
		}
		who, addr, _ := strings.Cut(strings.TrimSpace(line), " ")
		name = who
		from, _, err = net.SplitHostPort(addr)
		return err
	})
	return name, from, err
}
