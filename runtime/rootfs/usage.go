package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	usageAge   = 10 * time.Second // the kubelet asks at this pace
	usageShare = 100              // of the time at most one part in so many goes into walking an upper
	maxEntries = 1 << 20          // of one walk; more is reported as that many
	maxDepth   = 1024             // each level holds a descriptor
)

// Usage is what a container has written: bytes on disk and inodes, at a time.
type Usage struct {
	Bytes, Inodes uint64
	At            time.Time
}

// usage is the last walk of one upper, and the one under way, which all callers
// share.
type usage struct {
	mu      sync.Mutex
	last    Usage         // guarded by mu, like the rest; At is zero before the first walk
	next    time.Time     // when the last one is too old
	walking chan struct{} // closed at the end of the walk under way
	err     error         // of the last walk
}

// Usage returns what the container has written, 10 s ago at most, or longer
// when the upper is so large that a walk takes more than a tenth of a second.
// When the context ends first it is the result before, which may be none:
// ErrDeadlineExceeded. The walk goes on for the next caller. An upper of more
// than a million entries is counted up to there.
func (s *Store) Usage(ctx context.Context, id string) (Usage, error) {
	if err := checkID(id); err != nil {
		return Usage{}, fmt.Errorf("usage of root file system: %w", err)
	}
	s.mu.Lock()
	u := s.usages[id]
	if u == nil {
		u = &usage{}
		s.usages[id] = u
	}
	s.mu.Unlock()

	u.mu.Lock()
	if !u.last.At.IsZero() && time.Now().Before(u.next) {
		defer u.mu.Unlock()
		return u.last, nil
	}
	if u.walking == nil {
		u.walking = make(chan struct{})
		go s.walk(id, u)
	}
	walking := u.walking
	u.mu.Unlock()
	select {
	case <-walking:
	case <-ctx.Done():
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.err != nil:
		return Usage{}, fmt.Errorf("usage of root file system of %s: %w", id, u.err)
	case u.last.At.IsZero():
		return Usage{}, fmt.Errorf("usage of root file system of %s: first walk: %w", id, ctx.Err())
	}
	return u.last, nil
}

func (s *Store) walk(id string, u *usage) {
	began := time.Now()
	w := walk{seen: map[inode]bool{}}
	err := w.tree(filepath.Join(s.dir, id, "upper"))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	if err != nil {
		s.mu.Lock()
		if s.usages[id] == u {
			delete(s.usages, id)
		}
		s.mu.Unlock()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err = err; err == nil {
		u.last = Usage{Bytes: w.bytes, Inodes: w.inodes, At: time.Now()}
		u.next = u.last.At.Add(max(usageAge, usageShare*time.Since(began)))
	}
	close(u.walking)
	u.walking = nil
}

type inode struct{ dev, ino uint64 }

// walk adds up a tree that a container changes meanwhile. It goes by
// descriptor and follows no link: a directory swapped for a link to the host's
// root must not be counted, nor read.
type walk struct {
	bytes, inodes uint64
	entries       int
	seen          map[inode]bool // files with several names
}

func (w *walk) tree(path string) error {
	fd, err := linux.Openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(fd), path)
	defer d.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	w.add(st)
	return w.dir(d, 0)
}

func (w *walk) dir(d *os.File, depth int) error {
	for {
		entries, readErr := d.ReadDir(256)
		for _, e := range entries {
			if w.entries++; w.entries > maxEntries {
				return nil
			}
			st, err := linux.Lstatat(int(d.Fd()), e.Name())
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted since it was listed
			}
			if err != nil {
				return err
			}
			w.add(st)
			if st.Mode&unix.S_IFMT != unix.S_IFDIR || depth == maxDepth {
				continue
			}
			if err := w.enter(d, e.Name(), depth+1); err != nil {
				return err
			}
		}
		if readErr != nil || len(entries) == 0 {
			return nil // io.EOF, or a directory that was removed under us
		}
	}
}

func (w *walk) enter(d *os.File, name string, depth int) error {
	fd, err := linux.Openat(int(d.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // it is something else by now
	}
	if err != nil {
		return err
	}
	sub := os.NewFile(uintptr(fd), name)
	defer sub.Close()
	return w.dir(sub, depth)
}

func (w *walk) add(st unix.Stat_t) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		key := inode{uint64(st.Dev), st.Ino}
		if w.seen[key] {
			return
		}
		w.seen[key] = true
	}
	w.bytes += uint64(st.Blocks) * 512
	w.inodes++
}
