package builtin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux/namespace"
)

// veth is a pair to be made: one end in the host, one in a pod.
type veth struct {
	host   string           // name of the host end
	pod    string           // name of the pod end
	podMAC net.HardwareAddr // nil: the kernel's choice
	mtu    int              // 0: the kernel's default
	master int              // index of the bridge, 0: none
	netns  int              // descriptor of the pod's network namespace
}

// create makes the pair by one message, so under one hold of the kernel's
// network lock. A bridge's port is up; the pod's end cannot be, the kernel refuses
// to open it before it knows its peer.
func (v *veth) create(host *hostSide) error {
	hostMAC := make(net.HardwareAddr, 6)
	if _, err := rand.Read(hostMAC); err != nil {
		return err
	}
	hostMAC[0] = hostMAC[0]&^1 | 2 // unicast, locally administered

	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	attrs := []*nl.RtAttr{
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.host)),
		nl.NewRtAttr(unix.IFLA_ADDRESS, hostMAC),
	}
	if v.mtu != 0 {
		attrs = append(attrs, nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(v.mtu))))
	}
	if v.master != 0 {
		msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
		attrs = append(attrs, nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(v.master))))
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.pod))
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(v.netns)))
	if v.mtu != 0 {
		peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(v.mtu)))
	}
	if v.podMAC != nil {
		peer.AddRtAttr(unix.IFLA_ADDRESS, v.podMAC)
	}
	send := func() error {
		return host.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, msg, append(attrs, info)...)
	}
	err := send()
	if errors.Is(err, unix.EEXIST) {
		// The host end's name comes from the attachment, so it is what an
		// interrupted ADD or a DEL whose namespace lives on has left. Here
		// the slow deletion is right.
		if stale, lookErr := host.LinkByName(v.host); lookErr == nil {
			if err := host.LinkDel(stale); err != nil {
				return fmt.Errorf("delete stale %s: %w", v.host, err)
			}
			err = send()
		}
	}
	if err != nil {
		return fmt.Errorf("create veth %s with %s in the pod: %w", v.host, v.pod, err)
	}
	return nil
}

// hostSide is netlink to the host's network namespace from whatever thread.
type hostSide struct {
	*netlink.Handle
	sockets map[int]*nl.SocketHandle // for messages the library has no call for
}

// openHost is called on a thread that is at home.
func openHost() (*hostSide, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &hostSide{Handle: h, sockets: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

// Close closes both sockets.
func (h *hostSide) Close() {
	h.Handle.Close()
	for _, s := range h.sockets {
		s.Close()
	}
}

// waitUp waits until a link whose other end just came up carries packets: a
// bridge port drops them before, the pod's announcements too. Newer kernels bring
// the state up to date when they are asked for it, so that the first look is
// enough; older ones do it when they come round to it.
func (h *hostSide) waitUp(name string) (netlink.Link, error) {
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(500 * time.Microsecond) {
		l, err := h.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
		if l.Attrs().OperState == netlink.OperUp {
			return l, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s stays %s: %w", name, l.Attrs().OperState, errdefs.ErrUnavailable)
		}
	}
}

// request sends one message that is only acknowledged.
func (h *hostSide) request(kind, flags int, msg nl.NetlinkRequestData, attrs ...*nl.RtAttr) error {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = h.sockets
	req.AddData(msg)
	for _, a := range attrs {
		req.AddData(a)
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// setDown takes a link down by its name. No such link is success.
func (h *hostSide) setDown(name string) error {
	if err := h.setFlags(name, 0); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// downOthers takes down the host ends that a result of ADD names and that are not
// ours: the reference plugins made them, under names of their own.
func (h *hostSide) downOthers(res Result) error {
	if res == nil {
		return nil
	}
	var errs []error
	for _, i := range res.Interfaces {
		if i.Sandbox != "" || !strings.HasPrefix(i.Name, "veth") {
			continue
		}
		l, err := h.LinkByName(i.Name)
		if err == nil && l.Type() == "veth" && l.Attrs().Flags&net.FlagUp != 0 {
			errs = append(errs, h.setDown(i.Name))
		}
	}
	return errors.Join(errs...)
}

// setFlags sets a link up (IFF_UP) or down (0) by its name.
func (h *hostSide) setFlags(name string, up uint32) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Flags, msg.Change = up, unix.IFF_UP
	err := h.request(unix.RTM_NEWLINK, unix.NLM_F_ACK, msg, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if err != nil {
		return fmt.Errorf("set %s up or down: %w", name, err)
	}
	return nil
}

// remove deletes a link and waits for it: for the undo of an ADD only.
func (h *hostSide) remove(name string) error {
	l, err := h.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(l)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

// hostEnd names the host end after the attachment, so that DEL finds it without
// the namespace and without a result. 44 bits of a hash: IFNAMSIZ leaves no more.
func hostEnd(network, id, ifName string) string {
	sum := sha256.Sum256([]byte(network + "\x00" + id + "\x00" + ifName))
	return "veth" + hex.EncodeToString(sum[:])[:11]
}

// macOf derives a MAC from an address. A neighbour that still remembers the
// address's last holder then already knows the next one.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.AsSlice()
	if a.Is4() {
		return append(net.HardwareAddr{0x0a, 0x58}, b...) // as the CNI plugins once did, and OVN does
	}
	sum := sha256.Sum256(b)
	return append(net.HardwareAddr{0x0a, 0x5a}, sum[:4]...)
}

// setSysctl sets a sysctl of the calling thread's network namespace unless it
// has the value, sparing the kernel the walk over all interfaces.
func setSysctl(name, value string) error {
	if b, err := os.ReadFile("/proc/sys/" + name); err == nil && len(b) > 0 && string(b[:len(b)-1]) == value {
		return nil
	}
	return namespace.SetSysctl(name, value)
}

// ownLink keeps others from configuring a link of the host by IPv6 router
// advertisements (CVE-2020-10749: a pod could become the host's router), and
// spares its link-local address the search for duplicates, during which the host
// could not ask for the neighbours that it forwards to. For a link that is down
// still; best effort, as the kernel may be without IPv6.
func ownLink(name string) {
	_ = setSysctl("net/ipv6/conf/"+name+"/accept_ra", "0")
	_ = setSysctl("net/ipv6/conf/"+name+"/accept_dad", "0")
}

// forward makes the host route packets of the addresses' families.
func forward(addrs []netip.Prefix) error {
	for _, a := range addrs {
		name := "net/ipv6/conf/all/forwarding"
		if a.Addr().Is4() {
			name = "net/ipv4/ip_forward"
		}
		if err := setSysctl(name, "1"); err != nil {
			return err
		}
	}
	return nil
}
