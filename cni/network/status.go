package network

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
)

// How old the plugins' answer to STATUS may be, and how long it may take.
const (
	goodStatusAge = 10 * time.Second
	badStatusAge  = 2 * time.Second
	statusTimeout = 30 * time.Second
)

// health is what the plugins last answered to STATUS.
type health struct {
	err     error
	at      time.Time
	running bool
}

var errNotAsked = fmt.Errorf("cni plugin has not answered STATUS yet: %w", errdefs.ErrUnavailable)

// Status is nil when a network is configured and its plugins can attach pods.
// It answers from memory; STATUS is asked behind it.
func (m *Manager) Status(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.conf.networks) == 0 {
		return m.notInitialized()
	}
	age := goodStatusAge
	if m.check.err != nil {
		age = badStatusAge
	}
	if !m.check.running && time.Since(m.check.at) > age {
		m.ask()
	}
	return m.check.err
}

// Description is the network for a human: doctor and the verbose status.
type Description struct {
	Networks []*libcni.NetworkConfigList
	Problems []error // configuration files that were left out
}

// Describe tells which networks are in use and which files are not.
func (m *Manager) Describe() Description {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return Description{Networks: m.conf.networks, Problems: m.conf.problems}
}

// notInitialized is called with mu held. The start of the text is what the
// kubelet's users look for.
func (m *Manager) notInitialized() error {
	err := fmt.Errorf("cni plugin not initialized: no network config found in %s: %w", m.using.Load().ConfDir, errdefs.ErrUnavailable)
	return errors.Join(append([]error{err}, m.conf.problems...)...)
}

// publish makes a configuration the one in use, if what it was read by still is.
func (m *Manager) publish(w *wiring, l loaded) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.using.Load() != w {
		return
	}
	m.conf = l
	m.check = health{err: errNotAsked}
	if len(l.networks) > 0 {
		m.ask()
	}
}

// ask asks the plugins for their STATUS. Called with mu held. Built-in ones
// answer at once, others in their own time.
func (m *Manager) ask() {
	nets := m.conf.networks
	if !m.asksPrograms(nets) {
		m.check = health{err: m.askNetworks(nets), at: time.Now()}
		return
	}
	m.check.running = true
	m.done.Go(func() {
		err := m.askNetworks(nets)
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.conf.networks) > 0 && m.conf.networks[0] == nets[0] {
			m.check = health{err: err, at: time.Now()}
		}
	})
}

func (m *Manager) askNetworks(nets []*libcni.NetworkConfigList) error {
	ctx, cancel := context.WithTimeout(m.life, statusTimeout)
	defer cancel()
	for _, n := range nets {
		if err := m.using.Load().cni.GetStatusNetworkList(ctx, n); err != nil {
			return fmt.Errorf("cni plugin of network %q is not ready: %w: %w", n.Name, err, errdefs.ErrUnavailable)
		}
	}
	return nil
}
