package probe

import (
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux/namespace"
)

// nftable asks for the tables, which also loads the module where it is one.
func nftable() Feature {
	conn, err := nftables.New()
	if err == nil {
		_, err = conn.ListTables()
	}
	return present(err)
}

// networkDevices makes a bridge and a veth pair in a new network namespace.
func networkDevices() Feature {
	return present(namespace.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "probe-br"}}
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("make a bridge: %w", err)
		}
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "probe-a", MasterIndex: bridge.Index}, PeerName: "probe-b",
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("make a veth pair: %w", err)
		}
		return nil
	}))
}
