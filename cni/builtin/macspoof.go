package builtin

import (
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// A port that is listed may only send from its own MAC:
//
//	table bridge berth_macspoof {
//		set ports { type ifname }
//		set allowed { type ifname . ether_addr }
//		chain prerouting {
//			type filter hook prerouting priority -300
//			iifname @ports iifname . ether saddr != @allowed drop
//		}
//	}
var (
	spoofTable   = &nftables.Table{Name: "berth_macspoof", Family: nftables.TableFamilyBridge}
	spoofPorts   = &nftables.Set{Table: spoofTable, ID: 1, Name: "ports", KeyType: nftables.TypeIFName}
	spoofAllowed = &nftables.Set{Table: spoofTable, ID: 2, Name: "allowed", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeEtherAddr)}
	spoofRules = &ruleset{table: spoofTable, sets: []*nftables.Set{spoofPorts, spoofAllowed}, chains: spoofChains}
)

func spoofChains(c *nftables.Conn) {
	ch := baseChain(c, spoofTable, "prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRef(-300))
	rule(c, ch,
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: word0},
		&expr.Lookup{SourceRegister: word0, SetName: spoofPorts.Name, SetID: spoofPorts.ID},
		&expr.Payload{DestRegister: word0 + 4, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
		&expr.Lookup{SourceRegister: word0, SetName: spoofAllowed.Name, SetID: spoofAllowed.ID, Invert: true},
		verdict(expr.VerdictDrop),
	)
}

// ifKey is an interface name as a set element.
func ifKey(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}

func macKey(port string, mac net.HardwareAddr) []byte {
	return append(append(ifKey(port), mac...), 0, 0) // padded to a whole register
}

// pinMAC lets the port send from that MAC only.
func pinMAC(port, mac, by string) error {
	addr, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	err = spoofRules.apply(func(c *nftables.Conn) error {
		if err := c.SetAddElements(spoofAllowed, []nftables.SetElement{{Key: macKey(port, addr), Comment: by}}); err != nil {
			return err
		}
		return c.SetAddElements(spoofPorts, []nftables.SetElement{{Key: ifKey(port), Comment: by}})
	})
	if err != nil {
		return fmt.Errorf("pin MAC %s to %s: %w", mac, port, err)
	}
	return nil
}

func unpinMAC(by string) error {
	return removeWhere(spoofRules.sets, func(comment string) bool { return comment == by })
}

func gcPinnedMACs(network string, keep map[string]bool) error {
	return removeWhere(spoofRules.sets, func(comment string) bool { return stale(network, comment, keep) })
}
