package builtin

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Host ports lead into pods:
//
//	table inet berth_hostports {
//		map any4 { type inet_proto . inet_service : ipv4_addr . inet_service }
//		map one4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//		set snat4 { type ipv4_addr . ipv4_addr; flags interval }   # pod, from where
//		set localnet { type ifname }
//		chain guard {
//			type filter hook prerouting priority raw
//			iifname @localnet ip daddr 127.0.0.0/8 drop
//			iifname @localnet ip saddr 127.0.0.0/8 drop
//		}
//		chain hostports {
//			dnat ip to ip daddr . meta l4proto . th dport map @one4
//			dnat ip to meta l4proto . th dport map @any4
//		}
//		chain prerouting { type nat hook prerouting priority dstnat; fib daddr type local jump hostports }
//		chain output { type nat hook output priority dstnat; ip6 daddr ::1 return; fib daddr type local jump hostports }
//		chain postrouting {
//			type nat hook postrouting priority srcnat
//			ct status dnat ip daddr . ip saddr @snat4 masquerade
//		}
//	}
//
// and the same for IPv6, where no packet from ::1 can be made to leave the host,
// so that ::1 is not translated at all. snat4 holds for each pod who has to look like the host
// for the answer to come back through it: loopback, and the pod's own subnet,
// whose members the pod would answer past us.
//
// A packet from 127.0.0.1 leaves the host only where route_localnet is set, and
// there the kernel also takes packets to 127.0.0.1 from outside (CVE-2020-8558).
// The guard closes that: what answers come back are addressed to the host's own
// address until connection tracking, later, turns them round.
var (
	portTable = &nftables.Table{Name: "berth_hostports", Family: nftables.TableFamilyINet}
	ports4    = newPortSets("4", 1, ipv4)
	ports6    = newPortSets("6", 4, ipv6)
	localnet  = &nftables.Set{Table: portTable, ID: 7, Name: "localnet", KeyType: nftables.TypeIFName}
	portRules = &ruleset{table: portTable, sets: append(append(ports4.all(), ports6.all()...), localnet), chains: portChains}
)

// portSets are the sets of one family.
type portSets struct {
	family
	any, one, snat *nftables.Set
}

func newPortSets(suffix string, id uint32, f family) *portSets {
	to := nftables.MustConcatSetType(f.addr, nftables.TypeInetService)
	return &portSets{
		family: f,
		any: &nftables.Set{Table: portTable, ID: id, Name: "any" + suffix, IsMap: true, Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService), DataType: to},
		one: &nftables.Set{Table: portTable, ID: id + 1, Name: "one" + suffix, IsMap: true, Concatenation: true,
			KeyType: nftables.MustConcatSetType(f.addr, nftables.TypeInetProto, nftables.TypeInetService), DataType: to},
		snat: &nftables.Set{Table: portTable, ID: id + 2, Name: "snat" + suffix, Concatenation: true, Interval: true,
			KeyType: nftables.MustConcatSetType(f.addr, f.addr)},
	}
}

func portSetsOf(a netip.Addr) *portSets {
	if a.Is4() {
		return ports4
	}
	return ports6
}

func (s *portSets) all() []*nftables.Set { return []*nftables.Set{s.any, s.one, s.snat} }

func portChains(c *nftables.Conn) {
	guard := baseChain(c, portTable, "guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	for _, offset := range []uint32{ipv4.daddr, ipv4.saddr} {
		es := []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: word0},
			&expr.Lookup{SourceRegister: word0, SetName: localnet.Name, SetID: localnet.ID},
		}
		es = append(es, ipv4.inside(offset, netip.MustParsePrefix("127.0.0.0/8"), expr.CmpOpEq)...)
		rule(c, guard, ipv4.match(append(es, verdict(expr.VerdictDrop))...)...)
	}

	to := c.AddChain(&nftables.Chain{Table: portTable, Name: "hostports"})
	c.FlushChain(to)
	for _, s := range []*portSets{ports4, ports6} {
		rule(c, to, s.match(
			s.load(s.daddr, word0),
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word0 + s.words},
			&expr.Payload{DestRegister: word0 + s.words + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Lookup{SourceRegister: word0, DestRegister: 1, IsDestRegSet: true, SetName: s.one.Name, SetID: s.one.ID},
			s.dnat(),
		)...)
		rule(c, to, s.match(
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word0},
			&expr.Payload{DestRegister: word0 + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Lookup{SourceRegister: word0, DestRegister: 1, IsDestRegSet: true, SetName: s.any.Name, SetID: s.any.ID},
			s.dnat(),
		)...)
	}
	isLocal := []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
		jump("hostports"),
	}
	rule(c, baseChain(c, portTable, "prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest), isLocal...)
	out := baseChain(c, portTable, "output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	rule(c, out, ipv6.match(append(ipv6.inside(ipv6.daddr, netip.MustParsePrefix("::1/128"), expr.CmpOpEq), verdict(expr.VerdictReturn))...)...)
	rule(c, out, isLocal...)

	post := baseChain(c, portTable, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	dnatted := binary.NativeEndian.AppendUint32(nil, 1<<5) // IPS_DST_NAT
	for _, s := range []*portSets{ports4, ports6} {
		rule(c, post, s.match(
			&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: dnatted, Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
			s.load(s.daddr, word0),
			s.load(s.saddr, word0+s.words),
			&expr.Lookup{SourceRegister: word0, SetName: s.snat.Name, SetID: s.snat.ID},
			&expr.Masq{},
		)...)
	}
}

// dnat sends the packet to the address and port that a lookup left in the
// registers from the first word on.
func (s *portSets) dnat() expr.Any {
	return &expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(s.nfproto), RegAddrMin: 1, RegProtoMin: word0 + s.words, Specified: true}
}

// portKey finds the map a host port belongs into, and its key there.
func (s *portSets) portKey(p hostPort) (*nftables.Set, []byte) {
	set, key := s.any, []byte(nil)
	if p.ip.IsValid() && !p.ip.IsUnspecified() {
		set, key = s.one, p.ip.AsSlice()
	}
	key = append(key, p.protocol, 0, 0, 0)
	return set, append(binary.BigEndian.AppendUint16(key, p.host), 0, 0)
}

// target is a pod's address and port as map data.
func target(pod netip.Addr, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(pod.AsSlice(), port), 0, 0)
}
