package trash

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/berth-cri/berth/linux"
	"golang.org/x/sys/unix"
)

// Bin is a directory of things to be deleted, on the file system of the things.
type Bin struct {
	dir  string
	wake chan struct{}
	mu   sync.Mutex // one sweep at a time
}

// Open makes the directory when it is missing.
func Open(dir string) (*Bin, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open trash: %w", err)
	}
	return &Bin{dir: dir, wake: make(chan struct{}, 1)}, nil
}

// Discard moves the file or tree into the bin; nil when there is nothing there.
func (b *Bin) Discard(path string) error {
	// A fresh name in the bin itself: a directory made for it first could be
	// swept before the rename.
	err := os.Rename(path, filepath.Join(b.dir, filepath.Base(path)+"-"+rand.Text()))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("discard %s: %w", path, err)
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return nil
}

// Run sweeps at once and after each Discard, until the context ends.
func (b *Bin) Run(ctx context.Context, report func(error)) {
	for {
		if err := b.Sweep(ctx); err != nil && ctx.Err() == nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		}
	}
}

// Sweep deletes what is in the bin. What cannot be deleted stays for the next
// sweep and is reported with the rest.
func (b *Bin) Sweep(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return fmt.Errorf("sweep trash: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := remove(filepath.Join(b.dir, e.Name())); err != nil {
			errs = append(errs, fmt.Errorf("sweep trash: %w", err))
		}
	}
	return errors.Join(errs...)
}

// remove deletes a tree. A mount left in it (a crash between mount and umount)
// is detached, never emptied: RemoveAll would delete what is mounted there.
func remove(path string) error {
	for linux.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
	}
	return os.RemoveAll(path)
}
