package builtin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// defaultLeaseDir is where the reference plugin keeps its leases.
const defaultLeaseDir = "/var/lib/cni/networks"

// hostLocal is the host-local address management: it leases addresses out of
// ranges of the configuration, each lease one file.
func hostLocal(_ context.Context, r Request) (Result, error) {
	if r.Command == Status {
		return nil, nil
	}
	conf, err := parseHostLocal(r.Config, r.Args)
	if err != nil {
		return nil, err
	}
	dir := conf.IPAM.DataDir
	if dir == "" {
		dir = defaultLeaseDir
	}
	l, err := openLeases(dir, conf.Name)
	if err != nil {
		return nil, fmt.Errorf("host-local: %w", err)
	}
	defer l.Close()
	switch r.Command {
	case Add:
		return conf.lease(l, r)
	case Del:
		if err := l.release(r.ContainerID, r.IfName); err != nil {
			return nil, fmt.Errorf("host-local: release: %w", err)
		}
		return nil, nil
	case Check:
		held, err := l.held(r.ContainerID, r.IfName)
		if err == nil && len(held) == 0 {
			err = fmt.Errorf("no address is leased to %s %s: %w", r.ContainerID, r.IfName, errdefs.ErrNotFound)
		}
		if err != nil {
			return nil, fmt.Errorf("host-local: %w", err)
		}
		return nil, nil
	case GC:
		if err := l.keepOnly(conf.ValidAttachments); err != nil {
			return nil, fmt.Errorf("host-local: gc: %w", err)
		}
		return nil, nil
	}
	return nil, unknownCommand("host-local", r.Command)
}

// lease takes one address out of every range set.
func (c *hostLocalConf) lease(l *leases, r Request) (_ Result, err error) {
	res := &current.Result{CNIVersion: current.ImplementedSpecVersion, Routes: c.IPAM.Routes}
	if c.IPAM.ResolvConf != "" {
		if res.DNS, err = readResolvConf(c.IPAM.ResolvConf); err != nil {
			return nil, fmt.Errorf("host-local: %w", err)
		}
	}
	held, err := l.held(r.ContainerID, r.IfName)
	if err != nil {
		return nil, fmt.Errorf("host-local: %w", err)
	}
	var taken []netip.Addr
	defer func() {
		if err != nil {
			for _, a := range taken {
				err = errors.Join(err, l.drop(a))
			}
		}
	}()
	wanted := slices.Clone(c.requested)
	for i, set := range c.sets {
		var want netip.Addr
		if j := slices.IndexFunc(wanted, set.contains); j >= 0 {
			want = wanted[j]
			wanted = slices.Delete(wanted, j, j+1)
		}
		// The specification forbids a second ADD; the standard plugin lets a
		// requested address pass, which then is found taken anyway.
		if j := slices.IndexFunc(held, set.contains); j >= 0 && !want.IsValid() {
			return nil, fmt.Errorf("host-local: %s has been allocated to %s, duplicate allocation is not allowed: %w", held[j], r.ContainerID, errdefs.ErrAlreadyExists)
		}
		addr, rng, err := l.take(set, i, want, r.ContainerID, r.IfName)
		if err != nil {
			return nil, fmt.Errorf("host-local: failed to allocate for range %d: %w", i, err)
		}
		taken = append(taken, addr)
		res.IPs = append(res.IPs, &current.IPConfig{
			Address: ipNet(netip.PrefixFrom(addr, rng.subnet.Bits())),
			Gateway: rng.gateway.AsSlice(),
		})
	}
	if len(wanted) != 0 {
		return nil, fmt.Errorf("host-local: failed to allocate all requested IPs: %v: %w", wanted, errdefs.ErrInvalidArgument)
	}
	return res, nil
}

// readResolvConf reads the DNS settings that a resolv.conf holds.
func readResolvConf(path string) (dns types.DNS, err error) {
	f, err := os.Open(path)
	if err != nil {
		return dns, fmt.Errorf("resolvConf: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); ; {
		if !s.Scan() {
			return dns, s.Err()
		}
		fields := strings.Fields(s.Text())
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], ";") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			dns.Nameservers = append(dns.Nameservers, fields[1])
		case "domain":
			dns.Domain = fields[1]
		case "search":
			dns.Search = append(dns.Search, fields[1:]...)
		case "options":
			dns.Options = append(dns.Options, fields[1:]...)
		}
	}
}
