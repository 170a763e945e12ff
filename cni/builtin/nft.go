package builtin

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ruleset is one of our tables: its sets, and how its chains are written. Pods
// only come and go as set elements; the rules stay as they are, whatever the
// number of pods. Sets are numbered here: the library would do it in a global
// without a lock.
//
// Chains are written only with their table, so whoever changes a rule gives the
// table another name: a node that is upgraded keeps the old one until it reboots.
type ruleset struct {
	table *nftables.Table
	sets  []*nftables.Set
	// chains adds the chains, emptied first, and their rules.
	chains func(c *nftables.Conn)
}

// with is the table with more chains.
func (rs *ruleset) with(more func(c *nftables.Conn)) *ruleset {
	return &ruleset{table: rs.table, sets: rs.sets, chains: func(c *nftables.Conn) { rs.chains(c); more(c) }}
}

// conns are idle connections to nftables. They are kept because closing one after
// a deletion waits, in the kernel, until what was deleted is freed: 10 ms.
var conns = make(chan *nftables.Conn, 8)

// withConn lends a connection to fn.
func withConn(fn func(c *nftables.Conn) error) (err error) {
	var c *nftables.Conn
	select {
	case c = <-conns:
	default:
		if c, err = nftables.New(nftables.AsLasting()); err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
	}
	if err = fn(c); err == nil {
		select {
		case conns <- c:
			return nil
		default:
		}
	}
	// After an error there may be answers left in it that nobody waits for.
	go func() { _ = c.CloseLasting() }()
	return err
}

// apply sends a batch that adds elements. Where the table or a chain is not
// there, or somebody flushed the ruleset, all is made first, in one transaction.
func (rs *ruleset) apply(batch func(c *nftables.Conn) error) error {
	err := withConn(func(c *nftables.Conn) error { return errors.Join(batch(c), c.Flush()) })
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	return withConn(func(c *nftables.Conn) error {
		c.AddTable(rs.table)
		for _, s := range rs.sets {
			if err := c.AddSet(s, nil); err != nil {
				return fmt.Errorf("set %s: %w", s.Name, err)
			}
		}
		rs.chains(c)
		return errors.Join(batch(c), c.Flush())
	})
}

// remove deletes elements of one set that may be gone already. The kernel
// undoes a whole transaction when one of them is, so then they go one by one.
func remove(s *nftables.Set, elements []nftables.SetElement) error {
	if len(elements) == 0 {
		return nil
	}
	err := withConn(func(c *nftables.Conn) error { return errors.Join(c.SetDeleteElements(s, elements), c.Flush()) })
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	err = nil
	if len(elements) > 1 {
		for _, e := range elements {
			err = errors.Join(err, remove(s, []nftables.SetElement{e}))
		}
	}
	return err
}

// elements lists a set; one that does not exist is empty.
func elements(s *nftables.Set) (all []nftables.SetElement, err error) {
	err = withConn(func(c *nftables.Conn) (err error) {
		all, err = c.GetSetElements(s)
		return err
	})
	// The library drops the number of this one error.
	if err != nil && strings.HasSuffix(err.Error(), unix.ENOENT.Error()) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list elements of %s %s: %w", s.Table.Name, s.Name, err)
	}
	return all, nil
}

// removeWhere deletes the elements whose comment is chosen.
func removeWhere(sets []*nftables.Set, choose func(comment string) bool) error {
	var errs []error
	for _, s := range sets {
		all, err := elements(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var chosen []nftables.SetElement
		for _, e := range all {
			if choose(e.Comment) {
				chosen = append(chosen, nftables.SetElement{Key: e.Key, KeyEnd: e.KeyEnd})
			}
		}
		errs = append(errs, remove(s, chosen))
	}
	return errors.Join(errs...)
}

// family is one IP version as the rules need it.
type family struct {
	nfproto      byte
	addr         nftables.SetDatatype
	words        uint32 // 32-bit registers of an address
	saddr, daddr uint32 // offsets in the header
}

var (
	ipv4 = family{unix.NFPROTO_IPV4, nftables.TypeIPAddr, 1, 12, 16}
	ipv6 = family{unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 4, 8, 24}
)

// Registers: the numbers from 8 name single 32-bit words, which is what the
// parts of a concatenated key are loaded into; 1 is the verdict-free first word
// of the same space.
const word0 = unix.NFT_REG32_00

// match puts expressions behind the test for the family, for inet tables.
func (f family) match(es ...expr.Any) []expr.Any {
	return append([]expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: word0},
		&expr.Cmp{Op: expr.CmpOpEq, Register: word0, Data: []byte{f.nfproto}},
	}, es...)
}

// load reads an address of the header into a register.
func (f family) load(offset, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4 * f.words}
}

func jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

func verdict(k expr.VerdictKind) expr.Any { return &expr.Verdict{Kind: k} }

// baseChain adds a chain at a hook, emptied when it was there.
func baseChain(c *nftables.Conn, t *nftables.Table, name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
	ch := c.AddChain(&nftables.Chain{Table: t, Name: name, Type: kind, Hooknum: hook, Priority: prio})
	c.FlushChain(ch)
	return ch
}

func rule(c *nftables.Conn, ch *nftables.Chain, es ...expr.Any) {
	c.AddRule(&nftables.Rule{Table: ch.Table, Chain: ch, Exprs: es})
}
