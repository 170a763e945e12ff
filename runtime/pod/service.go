package pod

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/berth-cri/berth/cni/network"
	"github.com/berth-cri/berth/runtime/cgroup"
	"github.com/berth-cri/berth/runtime/handler"
	"github.com/berth-cri/berth/runtime/index"
	"github.com/berth-cri/berth/runtime/selinux"
	"golang.org/x/sync/singleflight"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// runLimit bounds one RunPodSandbox, which goes on when its caller has gone
// away: the kubelet gives up after 4 minutes, and asks for the same attempt
// again only if it got no other error.
const runLimit = 4 * time.Minute

// Network is what a pod needs of the node's network.
type Network interface {
	Setup(ctx context.Context, p network.Pod) (network.Result, error)
	// Teardown is idempotent; Netns may be empty.
	Teardown(ctx context.Context, p network.Pod) error
}

// Options of a Service.
type Options struct {
	StateDir string // <state>/pods
	Network  Network
	Cgroups  *cgroup.Manager
	Settings Settings         // of the beginning
	SELinux  *selinux.SELinux // nil: pods have no labels
	// UserNamespaces says why no pod can have a user namespace of its own, or nil.
	UserNamespaces func() error
	// Changed hears what happens to pods, in its order, when it has been
	// written down. It is called with the pod locked and must not wait; nil is
	// nobody.
	Changed func(*Pod, runtimeapi.ContainerEventType)
	// Plugins may be nil: none.
	Plugins Plugins
	Log     *slog.Logger
}

// Settings are what Configure can change at any time.
type Settings struct {
	Handlers *handler.Set
	// Networks are those of handlers that have their own, by name. They share the
	// records of Options.Network, which takes down all.
	Networks map[string]Network
	// Sysctls are set in every pod with a network of its own, unless the pod
	// sets them itself.
	Sysctls map[string]string
}

// Service is all pods of the node.
type Service struct {
	Options
	settings atomic.Pointer[Settings]
	monitor  Monitor
	index    *index.Index[*Pod]
	// flights joins requests for the same thing: "run NAME", "stop ID", "remove ID".
	flights singleflight.Group
}

// New makes an empty service; Restore fills it.
func New(o Options) (*Service, error) {
	if err := os.MkdirAll(o.StateDir, 0o711); err != nil { // 0711: containers of other users reach their files
		return nil, fmt.Errorf("pods: %w", err)
	}
	if o.Plugins == nil {
		o.Plugins = noPlugins{}
	}
	s := &Service{Options: o, index: index.New[*Pod]("pod sandbox")}
	s.Configure(o.Settings)
	return s, nil
}

// Configure makes the settings those of every request that begins from now on.
func (s *Service) Configure(set Settings) { s.settings.Store(&set) }

// Attach hands over the monitor, once, before any other call but Restore. It
// comes last because it asks at once what it must adopt.
func (s *Service) Attach(m Monitor) { s.monitor = m }

// Get finds a pod by id or unique prefix; ErrNotFound also for one that
// RunPodSandbox has not returned yet.
func (s *Service) Get(id string) (*Pod, error) {
	return s.index.Get(id)
}

// List returns every pod that RunPodSandbox has returned, oldest first.
func (s *Service) List() []*Pod {
	all := s.index.All()
	listed := all[:0]
	for _, p := range all {
		if p.Record().State != Creating {
			listed = append(listed, p)
		}
	}
	return listed
}

// join runs f once for all callers that ask for the same key, in a context that
// none of them can cancel. A caller that stops waiting learns what for.
func (s *Service) join(ctx context.Context, key string, limit time.Duration, waiting func() string, f func(context.Context) (string, error)) (string, error) {
	began := time.Now()
	done := s.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		return f(ctx)
	})
	select {
	case r := <-done:
		id, _ := r.Val.(string)
		return id, r.Err
	case <-ctx.Done():
		return "", fmt.Errorf("still waiting for %s after %s: %w", waiting(), time.Since(began).Round(time.Millisecond), ctx.Err())
	}
}

func (s *Service) directory(id string) string { return filepath.Join(s.StateDir, id) }
