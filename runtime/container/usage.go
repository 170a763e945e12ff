package container

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-cri/berth/runtime/rootfs"
	"github.com/berth-cri/berth/runtime/stats"
	"github.com/containerd/errdefs"
)

// How long questions wait for the walk of a writable layer that is too old. The
// walk goes on for the next one who asks.
const (
	statsPatience = 50 * time.Millisecond
	fsPatience    = 2 * time.Second
)

// Stats is what a container uses.
type Stats struct {
	stats.Reading               // of the container that runs; else only its time
	Layer         *rootfs.Usage // of the writable layer; nil until it was walked for the first time
}

// Stats reads a container with the parts asked for. ErrNotFound when it is being
// removed.
func (s *Service) Stats(ctx context.Context, c *Container, parts stats.Parts) (Stats, error) {
	var st Stats
	var err error
	if state := c.Status().State; state == Running || state == Stopping {
		if st.Reading, err = c.meter.Read(s.Cgroups.Load(c.rec.Cgroup).Dir, parts); err != nil {
			return Stats{}, fmt.Errorf("stats of container %s: %w", c.rec.ID, err)
		}
	} else {
		st.At = time.Now()
	}
	ctx, cancel := context.WithTimeout(ctx, statsPatience)
	defer cancel()
	layer, err := s.Rootfs.Usage(ctx, c.rec.ID)
	switch {
	case err == nil:
		st.Layer = &layer
	case !errors.Is(err, context.DeadlineExceeded):
		return Stats{}, fmt.Errorf("stats of container %s: %w", c.rec.ID, err)
	}
	return st, nil
}

// Written is what a container's writable layer holds.
func (s *Service) Written(ctx context.Context, c *Container) (rootfs.Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, fsPatience)
	defer cancel()
	return s.Rootfs.Usage(ctx, c.rec.ID)
}

// Pids are the processes of a container.
func (s *Service) Pids(c *Container) ([]int, error) { return s.Cgroups.Load(c.rec.Cgroup).Pids() }

// FsUsage adds up the writable layers of all containers, in bytes and inodes. A
// container that is removed meanwhile counts nothing.
func (s *Service) FsUsage(ctx context.Context) (bytes, inodes uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, fsPatience)
	defer cancel()
	for _, c := range s.List() {
		u, err := s.Rootfs.Usage(ctx, c.rec.ID)
		if err != nil && !errdefs.IsNotFound(err) && !errors.Is(err, context.DeadlineExceeded) {
			return 0, 0, err
		}
		bytes, inodes = bytes+u.Bytes, inodes+u.Inodes
	}
	return bytes, inodes, nil
}
