package builtin

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RemoveUnused takes away what stays when the last pod has gone, for who leaves
// the machine for good: the tables, and the bridge of this name ("" for none).
// What somebody still uses, another daemon's pods for instance, stays. The kernel
// takes its time to delete the interfaces of namespaces that are gone: a bridge
// with ports is looked at again until the patience is over.
func RemoveUnused(bridge string, patience time.Duration) error {
	var errs []error
	for end := time.Now().Add(patience); bridge != ""; time.Sleep(20 * time.Millisecond) {
		used, err := removeBridge(bridge)
		if !used || err != nil || time.Now().After(end) {
			errs = append(errs, err)
			break
		}
	}
	there, err := interfaces()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, rs := range []*ruleset{masqRules, portRules, spoofRules} {
		errs = append(errs, rs.removeUnused(there))
	}
	return errors.Join(errs...)
}

func (rs *ruleset) removeUnused(there map[string]bool) error {
	for _, s := range rs.sets {
		all, err := elements(s)
		if err != nil {
			return err
		}
		for _, e := range all {
			// The guard of a bridge goes with the bridge.
			if s != localnet || there[interfaceKey(e.Key)] {
				return nil
			}
		}
	}
	err := withConn(func(c *nftables.Conn) error {
		c.DelTable(rs.table)
		return c.Flush()
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete table %s: %w", rs.table.Name, err)
	}
	return nil
}

func removeBridge(name string) (used bool, err error) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find %s: %w", name, err)
	}
	if link.Type() != "bridge" {
		return false, nil
	}
	all, err := netlink.LinkList()
	if err != nil {
		return false, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range all {
		if l.Attrs().MasterIndex == link.Attrs().Index {
			return true, nil
		}
	}
	if err := netlink.LinkDel(link); err != nil {
		return false, fmt.Errorf("delete %s: %w", name, err)
	}
	return false, nil
}
