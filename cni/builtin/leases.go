package builtin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

// leases are the lease files of one network in the standard plugin's format: a
// file per address with its holder as "containerID\r\nifname", the address last
// given out of range set N in last_reserved_ip.N, and a file "lock" that is held
// with flock(2) by whoever reads or writes.
type leases struct {
	dir  string
	lock *os.File
}

func openLeases(dataDir, network string) (*leases, error) {
	dir := filepath.Join(dataDir, network)
	f, err := openLock(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(dir, 0o755); err == nil {
			f, err = openLock(dir)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open leases: %w", err)
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock leases in %s: %w", dir, err)
	}
	return &leases{dir: dir, lock: f}, nil
}

func openLock(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDONLY, 0o600)
}

// Close lets the next one in.
func (l *leases) Close() { l.lock.Close() }

// take leases the wanted address, or the next free one after the last given out.
func (l *leases) take(set rangeSet, n int, want netip.Addr, id, ifName string) (netip.Addr, addrRange, error) {
	if want.IsValid() {
		r := set[set.find(want)]
		if want == r.gateway {
			return want, r, fmt.Errorf("requested ip %s is subnet's gateway: %w", want, errdefs.ErrInvalidArgument)
		}
		ok, err := l.reserve(want, n, id, ifName)
		if err == nil && !ok {
			err = fmt.Errorf("requested IP address %s is not available: %w", want, errdefs.ErrAlreadyExists)
		}
		return want, r, err
	}
	// Round robin: an address just freed is the last to be given out again.
	i, cur := 0, set[0].first.Prev()
	if last, ok := l.lastReserved(n); ok && set.contains(last) {
		i, cur = set.find(last), last
	}
	for start := (netip.Addr{}); ; {
		if cur == set[i].last {
			i = (i + 1) % len(set)
			cur = set[i].first
		} else {
			cur = cur.Next()
		}
		if cur == start {
			return cur, set[i], fmt.Errorf("no IP addresses available in range set: %w", errdefs.ErrResourceExhausted)
		}
		if !start.IsValid() {
			start = cur
		}
		if cur == set[i].gateway {
			continue
		}
		ok, err := l.reserve(cur, n, id, ifName)
		if err != nil || ok {
			return cur, set[i], err
		}
	}
}

func (l *leases) reserve(a netip.Addr, n int, id, ifName string) (bool, error) {
	f, err := os.OpenFile(l.path(a), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = f.WriteString(holder(id, ifName))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.WriteFile(l.lastFile(n), []byte(a.String()), 0o600)
	}
	if err != nil {
		return false, errors.Join(err, os.Remove(l.path(a)))
	}
	return true, nil
}

func (l *leases) lastReserved(n int) (netip.Addr, bool) {
	// Lost or odd content only costs one turn of the round.
	b, err := os.ReadFile(l.lastFile(n))
	if err != nil {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(string(b))
	return a, err == nil
}

// held lists the addresses leased to an attachment.
func (l *leases) held(id, ifName string) ([]netip.Addr, error) {
	all, err := l.holders()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for a, h := range all {
		// The bare id was written before interfaces had names in the format.
		if h == holder(id, ifName) || h == id {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}

// release gives back what an attachment holds.
func (l *leases) release(id, ifName string) error {
	held, err := l.held(id, ifName)
	for _, a := range held {
		h, readErr := l.read(a)
		if readErr == nil && (h == holder(id, ifName) || h == id) {
			err = errors.Join(err, l.drop(a))
		}
	}
	return err
}

// keepOnly gives back what none of the attachments holds.
func (l *leases) keepOnly(valid []types.GCAttachment) error {
	keep := map[string]bool{}
	for _, v := range valid {
		keep[holder(v.ContainerID, v.IfName)] = true
		keep[v.ContainerID] = true
	}
	all, err := l.holders()
	for a, h := range all {
		if !keep[h] {
			err = errors.Join(err, l.drop(a))
		}
	}
	return err
}

func (l *leases) drop(a netip.Addr) error {
	if err := os.Remove(l.path(a)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	seen.Lock()
	delete(seen.dirs[l.dir], a.String())
	seen.Unlock()
	return nil
}

func (l *leases) path(a netip.Addr) string { return filepath.Join(l.dir, a.String()) }

func (l *leases) lastFile(n int) string {
	return filepath.Join(l.dir, "last_reserved_ip."+strconv.Itoa(n))
}

func holder(id, ifName string) string { return strings.TrimSpace(id) + "\r\n" + ifName }

// seen remembers who holds a lease file, by directory, so that a node with a
// thousand leases does not read a thousand files for every pod. A lease is
// never rewritten, so name and inode identify its content; the one way to be
// wrong, the same address leased again on the same inode by another program,
// is caught where it matters: release reads the file before it removes it.
var seen = struct {
	sync.Mutex
	dirs map[string]map[string]seenLease // guarded by Mutex; the inner map by the directory's lock
}{dirs: map[string]map[string]seenLease{}}

type seenLease struct {
	inode  uint64
	holder string
}

// holders tells who holds which address.
func (l *leases) holders() (map[netip.Addr]string, error) {
	names, err := listInodes(l.dir)
	if err != nil {
		return nil, err
	}
	seen.Lock()
	old := seen.dirs[l.dir]
	seen.Unlock()
	now := make(map[string]seenLease, len(names))
	out := make(map[netip.Addr]string, len(names))
	for name, inode := range names {
		a, err := netip.ParseAddr(name)
		if err != nil {
			continue // lock, last_reserved_ip.N
		}
		s, ok := old[name]
		if !ok || s.inode != inode {
			s.inode = inode
			s.holder, err = l.read(a)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if s.holder == "" {
				// We hold the lock, so this writer was killed on the way.
				if err := l.drop(a); err != nil {
					return nil, err
				}
				continue
			}
		}
		now[name] = s
		out[a] = s.holder
	}
	seen.Lock()
	seen.dirs[l.dir] = now
	seen.Unlock()
	return out, nil
}

func (l *leases) read(a netip.Addr) (string, error) {
	f, err := os.Open(l.path(a))
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	return string(bytes.TrimSpace(b)), err
}

// listInodes lists a directory with the inode numbers that getdents64(2) gives
// for free and os.ReadDir throws away.
func listInodes(dir string) (map[string]uint64, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names := map[string]uint64{}
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(int(d.Fd()), buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "getdents64", Path: dir, Err: err}
		}
		if n == 0 {
			return names, nil
		}
		for b := buf[:n]; len(b) > 0; {
			// struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
			size := binary.NativeEndian.Uint16(b[16:])
			name, _, _ := bytes.Cut(b[19:size], []byte{0})
			names[string(name)] = binary.NativeEndian.Uint64(b)
			b = b[size:]
		}
	}
}
