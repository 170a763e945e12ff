package store

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/berth-cri/berth/linux"
	"golang.org/x/sys/unix"
)

// syncTree makes every file and directory of a tree durable.
func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.IsDir() && !e.Type().IsRegular() {
			return nil // durable with its directory
		}
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}

// syncer runs syncfs: one at a time, and one for all who ask while the last
// one runs. The descriptor is open from the start, so that no error of
// write-back goes unreported.
type syncer struct {
	dir  *os.File
	turn sync.Mutex // held over a syncfs

	mu     sync.Mutex
	next   *round // guarded by mu; has not begun
	failed uint64 // guarded by mu; rounds that ended with an error
}

type round struct {
	done chan struct{}
	err  error // set before done is closed
}

func newSyncer(dir string) (*syncer, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &syncer{dir: f}, nil
}

func (s *syncer) close() error { return s.dir.Close() }

func (s *syncer) failures() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// wait returns when a round that began after the call has ended.
func (s *syncer) wait(ctx context.Context) error {
	s.mu.Lock()
	r := s.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		s.next = r
		go s.run(r)
	}
	s.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *syncer) run(r *round) {
	s.turn.Lock()
	defer s.turn.Unlock()
	s.mu.Lock()
	s.next = nil // who asks from now on may have written after this round began
	s.mu.Unlock()

	err := linux.Syncfs(s.dir)

	s.mu.Lock()
	if err != nil {
		s.failed++
	}
	s.mu.Unlock()
	r.err = err
	close(r.done)
}
