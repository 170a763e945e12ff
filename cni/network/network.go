package network

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
)

// Manager attaches pods to the configured networks.
type Manager struct {
	opts Options
	exec *dispatcher
	cni  *libcni.CNIConfig

	life context.Context // ends with Close: plugins that are asked for STATUS
	stop context.CancelFunc
	done sync.WaitGroup

	mu    sync.RWMutex
	conf  loaded // guarded by mu
	check health // guarded by mu

	cidrs sync.Mutex // held while the template is rendered
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
	d := &dispatcher{binDirs: o.BinDirs, log: o.Logger}
	m := &Manager{opts: o, exec: d, cni: libcni.NewCNIConfigWithCacheDir(o.BinDirs, o.CacheDir, d)}
	m.life, m.stop = context.WithCancel(context.Background())
	if o.BuiltinNetwork {
		list, err := builtinNetwork(o)
		if err != nil {
			m.stop()
			return nil, fmt.Errorf("network: %w", err)
		}
		m.publish(loaded{networks: []*libcni.NetworkConfigList{list}})
		return m, nil
	}
	m.reload()
	m.done.Go(func() { m.watch(m.life) })
	return m, nil
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
