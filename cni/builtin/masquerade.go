package builtin

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A pod's traffic that leaves its subnet gets the host's address:
//
//	table inet berth_masq {
//		map pods4 { type ipv4_addr : verdict; elements = { 10.1.0.7 : goto net_10.1.0.0/16 } }
//		chain postrouting {
//			type nat hook postrouting priority srcnat
//			ip daddr 224.0.0.0/4 return
//			ip saddr vmap @pods4
//		}
//		chain net_10.1.0.0/16 { ip daddr != 10.1.0.0/16 masquerade }
//	}
//
// and the same for IPv6. One lookup, however many pods there are.
var (
	masqTable = &nftables.Table{Name: "berth_masq", Family: nftables.TableFamilyINet}
	masqPods4 = &nftables.Set{Table: masqTable, ID: 1, Name: "pods4", IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeVerdict}
	masqPods6 = &nftables.Set{Table: masqTable, ID: 2, Name: "pods6", IsMap: true, KeyType: nftables.TypeIP6Addr, DataType: nftables.TypeVerdict}
	masqRules = &ruleset{table: masqTable, sets: []*nftables.Set{masqPods4, masqPods6}, chains: masqChains}
)

func masqSet(a netip.Addr) (*nftables.Set, family) {
	if a.Is4() {
		return masqPods4, ipv4
	}
	return masqPods6, ipv6
}

func masqChains(c *nftables.Conn) {
	ch := baseChain(c, masqTable, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	for _, f := range []struct {
		family
		multicast string
		pods      *nftables.Set
	}{{ipv4, "224.0.0.0/4", masqPods4}, {ipv6, "ff00::/8", masqPods6}} {
		rule(c, ch, f.match(append(f.inside(f.daddr, netip.MustParsePrefix(f.multicast), expr.CmpOpEq), verdict(expr.VerdictReturn))...)...)
		rule(c, ch, f.match(
			f.load(f.saddr, word0),
			&expr.Lookup{SourceRegister: word0, SetName: f.pods.Name, SetID: f.pods.ID, DestRegister: 0, IsDestRegSet: true},
		)...)
	}
}

// masquerade adds the pod's addresses. Their prefix length says what is near.
func masquerade(addrs []netip.Prefix, by string) error {
	rules := masqRules.with(func(c *nftables.Conn) {
		for _, a := range addrs {
			_, f := masqSet(a.Addr())
			ch := c.AddChain(&nftables.Chain{Table: masqTable, Name: masqChain(a)})
			c.FlushChain(ch)
			rule(c, ch, f.match(append(f.inside(f.daddr, a, expr.CmpOpNeq), &expr.Masq{})...)...)
		}
	})
	// An address that somebody left behind, killed before its DEL, is ours now: the
	// lease says so. Adding what is there already would leave it with the other's
	// comment, so it is added, taken away and added; and where the old one leads
	// to another chain, so that the first step fails, taken away first.
	steps := func(all ...func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
		return rules.apply(func(c *nftables.Conn) error {
			for _, a := range addrs {
				set, _ := masqSet(a.Addr())
				for _, step := range all {
					err := step(c, set, []nftables.SetElement{{
						Key:         a.Addr().AsSlice(),
						VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: masqChain(a)},
						Comment:     by,
					}})
					if err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	add, take := (*nftables.Conn).SetAddElements, (*nftables.Conn).SetDeleteElements
	err := steps(add, take, add)
	if errors.Is(err, unix.EEXIST) {
		for _, a := range addrs {
			set, _ := masqSet(a.Addr())
			if err := remove(set, []nftables.SetElement{{Key: a.Addr().AsSlice()}}); err != nil {
				return fmt.Errorf("masquerade %v: replace: %w", addrs, err)
			}
		}
		err = steps(add)
	}
	if err != nil {
		return fmt.Errorf("masquerade %v: %w", addrs, err)
	}
	return nil
}

// unmasquerade removes them. Without addresses they are found by their owner.
func unmasquerade(addrs []netip.Prefix, by string) error {
	if len(addrs) == 0 {
		return removeWhere(masqRules.sets, func(comment string) bool { return comment == by })
	}
	var errs []error
	for _, a := range addrs {
		set, _ := masqSet(a.Addr())
		errs = append(errs, remove(set, []nftables.SetElement{{Key: a.Addr().AsSlice()}}))
		if a.IsSingleIP() {
			errs = append(errs, dropMasqChain(a)) // its chain was for it alone
		}
	}
	return errors.Join(errs...)
}

func dropMasqChain(a netip.Prefix) error {
	err := withConn(func(c *nftables.Conn) error {
		c.DelChain(&nftables.Chain{Table: masqTable, Name: masqChain(a)})
		return c.Flush()
	})
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) {
		return err
	}
	return nil
}

// gcMasquerade removes what a network's attachments other than the kept ones left.
func gcMasquerade(network string, keep map[string]bool) error {
	return removeWhere(masqRules.sets, func(comment string) bool { return stale(network, comment, keep) })
}

func masqChain(a netip.Prefix) string {
	return "net_" + strings.ReplaceAll(a.Masked().String(), ":", "_")
}

// inside tests whether an address of the header is in a prefix (CmpOpEq), or not.
func (f family) inside(offset uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
	mask := ipNet(p).Mask
	return []expr.Any{
		f.load(offset, 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4 * f.words, Mask: mask, Xor: make([]byte, len(mask))},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}
