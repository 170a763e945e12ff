package network

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
)

// Manager attaches pods to the configured networks.
type Manager struct {
	opts Options // without its Settings: those are in using

	life context.Context // ends with Close: plugins that are asked for STATUS
	stop context.CancelFunc
	done sync.WaitGroup

	using atomic.Pointer[wiring] // stored with mu held

	mu    sync.RWMutex
	conf  loaded // guarded by mu
	check health // guarded by mu

	cidrs sync.Mutex // held while the template is rendered
	given []string   // guarded by cidrs
}

// wiring is what follows from Settings. It never changes: an operation takes it
// once.
type wiring struct {
	Settings
	exec *dispatcher
	cni  *libcni.CNIConfig
	life context.Context // of the watch on ConfDir
	stop context.CancelFunc
}

// New loads the configuration and starts to watch it. The caller closes the Manager.
func New(o Options) (*Manager, error) {
	if o.StateDir == "" {
		return nil, fmt.Errorf("network: no state directory: %w", errdefs.ErrInvalidArgument)
	}
	o.setDefaults()
	for _, dir := range []string{filepath.Join(o.StateDir, "attachments"), o.CacheDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("network: %w", err)
		}
	}
	m := &Manager{opts: o}
	m.opts.Settings = Settings{}
	m.life, m.stop = context.WithCancel(context.Background())
	use, err := m.Prepare(o.Settings)
	if err != nil {
		m.stop()
		return nil, err
	}
	use()
	return m, nil
}

// Prepare checks other settings and reads what they name. Nothing has changed
// before use is called, which cannot fail.
func (m *Manager) Prepare(s Settings) (use func(), err error) {
	s.setDefaults()
	d := &dispatcher{binDirs: s.BinDirs, log: m.opts.Logger}
	w := &wiring{Settings: s, exec: d, cni: libcni.NewCNIConfigWithCacheDir(s.BinDirs, m.opts.CacheDir, d)}
	var found loaded
	if s.BuiltinNetwork {
		list, err := builtinNetwork(s, m.opts.BuiltinLeaseDir)
		if err != nil {
			return nil, fmt.Errorf("network: %w", err)
		}
		found.networks = []*libcni.NetworkConfigList{list}
	} else {
		found = load(s.ConfDir, s.MaxConfNum)
	}
	return func() { m.use(w, found) }, nil
}

// use replaces the settings and what was found by them.
func (m *Manager) use(w *wiring, found loaded) {
	w.life, w.stop = context.WithCancel(m.life)
	m.mu.Lock()
	old := m.using.Swap(w)
	m.mu.Unlock()
	m.take(w, found)
	if old != nil {
		old.stop()
		if old.ConfTemplate != w.ConfTemplate {
			m.done.Go(m.renderAgain)
		}
	}
	if !w.BuiltinNetwork {
		m.done.Go(func() { m.watch(w) })
	}
}

// Close stops watching. Pods stay attached.
func (m *Manager) Close() error {
	m.stop()
	m.done.Wait()
	return nil
}

// networks are what pods are attached to now.
func (m *Manager) networks() ([]*libcni.NetworkConfigList, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(m.conf.networks) == 0 {
		return nil, m.notInitialized()
	}
	return m.conf.networks, nil
}
