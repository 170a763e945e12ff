package network

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/fsnotify/fsnotify"
)

// rescanEvery is how often the directory is read while there is no network, and
// when no watch is to be had. A watch alone is not enough: one on a directory
// that was removed and made anew is lost for ever.
const rescanEvery = 2 * time.Second

// settleTime waits for the rest of a burst of changes.
const settleTime = 20 * time.Millisecond

func (m *Manager) watch(c *wiring) {
	ctx := c.life
	w, err := fsnotify.NewWatcher()
	if err != nil {
		m.opts.Logger.Warn("cannot watch the CNI configuration; reading it every few seconds", "error", err)
		m.poll(c)
		return
	}
	defer w.Close()
	dir := filepath.Clean(c.ConfDir)
	follow := func() bool {
		// Adding what is watched already does nothing.
		parent := w.Add(filepath.Dir(dir))
		return w.Add(dir) == nil && parent == nil
	}
	follow()
	m.reload(c) // what changed before the watch began
	tick := time.NewTicker(rescanEvery)
	defer tick.Stop()
	watched := true
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.Events:
			if !ok {
				return
			}
			if e.Name != dir && filepath.Dir(e.Name) != dir {
				continue // something else in the parent
			}
			drain(ctx, w)
		case err := <-w.Errors:
			m.opts.Logger.Warn("watching the CNI configuration", "dir", dir, "error", err)
		case <-tick.C:
			if m.ready() && watched {
				continue
			}
		}
		watched = follow()
		m.reload(c)
	}
}

// drain takes the events that come close together.
func drain(ctx context.Context, w *fsnotify.Watcher) {
	for timer := time.After(settleTime); ; {
		select {
		case <-w.Events:
		case <-timer:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (m *Manager) poll(c *wiring) {
	for {
		select {
		case <-c.life.Done():
			return
		case <-time.After(rescanEvery):
			m.reload(c)
		}
	}
}

func (m *Manager) ready() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.conf.networks) > 0
}

// reload reads the directory and publishes what changed.
func (m *Manager) reload(w *wiring) { m.take(w, load(w.ConfDir, w.MaxConfNum)) }

// take publishes what is new in what was found.
func (m *Manager) take(w *wiring, l loaded) {
	m.mu.RLock()
	old := m.conf
	m.mu.RUnlock()
	same := slices.EqualFunc(old.networks, l.networks, func(a, b *libcni.NetworkConfigList) bool {
		return string(a.Bytes) == string(b.Bytes)
	})
	sameProblems := slices.EqualFunc(old.problems, l.problems, func(a, b error) bool { return a.Error() == b.Error() })
	if !sameProblems {
		for _, err := range l.problems {
			m.opts.Logger.Warn("CNI configuration left out", "error", err)
		}
	}
	switch {
	case !same:
		if !w.BuiltinNetwork {
			m.opts.Logger.Info("CNI configuration", "dir", w.ConfDir, "networks", l.names)
		}
		m.publish(w, l)
	case !sameProblems:
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.using.Load() == w {
			m.conf.problems = l.problems
		}
	}
}
