package container

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/berth-cri/berth/imageservice/store"
	"github.com/berth-cri/berth/linux/namespace"
	"github.com/berth-cri/berth/runtime/cdi"
	"github.com/berth-cri/berth/runtime/cgroup"
	"github.com/berth-cri/berth/runtime/handler"
	"github.com/berth-cri/berth/runtime/index"
	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/berth-cri/berth/runtime/rootfs"
	"github.com/berth-cri/berth/runtime/selinux"
	"github.com/berth-cri/berth/runtime/spec"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/singleflight"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Images is what containers need of the image service.
type Images interface {
	// HoldImage finds an image and keeps its layers from being swept for as
	// long as the owner lives; Hold does the latter again after a restart.
	HoldImage(owner, nameOrID string) (*store.Image, error)
	Hold(owner string, layers []digest.Digest)
	LayerDirs(diffIDs []digest.Digest) []string // topmost first
	Release(owner string)
}

// Rootfs makes and removes the writable part of a container's root.
type Rootfs interface {
	// Upper is the directory of what a container has written.
	Upper(id string) string
	Prepare(id string, layers []string, ids *namespace.Mapping) (rootfs.Overlay, error)
	MakeDirs(o rootfs.Overlay, paths []string, ids *namespace.Mapping) error
	Remove(id string) error
	ResolveUser(layers []string, image string, sc *runtimeapi.LinuxContainerSecurityContext) (rootfs.User, error)
	List() ([]string, error)
	Usage(ctx context.Context, id string) (rootfs.Usage, error)
}

// Monitor runs the processes.
type Monitor interface {
	Start(ctx context.Context, r monitor.StartRequest) (*monitor.Started, error)
	Exec(ctx context.Context, r monitor.ExecRequest) (*monitor.Exec, error)
	Kill(ctx context.Context, r monitor.KillRequest) error
	Attach(ctx context.Context, id, attachID, spoolDir string, stdout, stderr bool) (*monitor.Attachment, error)
	CloseStdin(ctx context.Context, id string) error
	ReopenLog(ctx context.Context, id string) error
	List(ctx context.Context) ([]monitor.Container, error)
	Take(ctx context.Context, id string) (pidfd, console *os.File, err error)
	Forget(ctx context.Context, id string) error
}

// Options of a Service.
type Options struct {
	StateDir string // <state>/containers
	Pods     *pod.Service
	Images   Images
	Rootfs   Rootfs
	Cgroups  *cgroup.Manager
	Settings Settings         // of the beginning
	SELinux  *selinux.SELinux // nil: containers have no labels
	// SpoolDir is on a disk: what attached clients have not read yet waits
	// there, in files without a name.
	SpoolDir string
	// Changed hears what happens to containers, in its order, when it has been
	// written down. It is called with the container locked and must not wait;
	// nil is nobody.
	Changed func(*Container, runtimeapi.ContainerEventType)
	// Plugins may be nil: none.
	Plugins Plugins
	Log     *slog.Logger
}

// Settings are what Configure can change at any time. An operation takes them
// once.
type Settings struct {
	// Spec is what every container's spec is built from besides its own
	// configuration: host facts and the node's defaults.
	Spec spec.Node
	CDI  *cdi.Directories
	// AppArmor is that of the host.
	AppArmor spec.AppArmor
	// Handlers are the ways to run a pod's containers.
	Handlers *handler.Set
	// KillTimeout bounds how long a stop waits after SIGKILL: a process in an
	// uninterruptible call outlives it.
	KillTimeout time.Duration
	// Drain bounds how long an exec reads on after its command has ended.
	Drain time.Duration
}

// Service is all containers of the node.
type Service struct {
	Options
	settings atomic.Pointer[Settings]
	monitor  Monitor
	index    *index.Index[*Container]
	// flights joins requests for the same thing: "create NAME", "remove ID".
	flights singleflight.Group
}

// New makes an empty service; Restore fills it.
func New(o Options) (*Service, error) {
	if err := os.MkdirAll(o.StateDir, 0o711); err != nil { // 0711: processes of other users re-open their FIFOs
		return nil, fmt.Errorf("containers: %w", err)
	}
	if o.Plugins == nil {
		o.Plugins = noPlugins{}
	}
	s := &Service{Options: o, index: index.New[*Container]("container")}
	s.Configure(o.Settings)
	return s, nil
}

// Configure makes the settings those of every request that begins from now on.
func (s *Service) Configure(set Settings) { s.settings.Store(&set) }

// Handlers are the ways to run a pod's containers now.
func (s *Service) Handlers() *handler.Set { return s.settings.Load().Handlers }

// Attach hands over the monitor, once, before any other call but Restore. It
// comes last because it asks at once what it must adopt.
func (s *Service) Attach(m Monitor) { s.monitor = m }

// Get finds a container by id or unique prefix.
func (s *Service) Get(id string) (*Container, error) { return s.index.Get(id) }

// List returns every container that CreateContainer has returned, oldest first.
func (s *Service) List() []*Container {
	all := s.index.All()
	listed := all[:0]
	for _, c := range all {
		if st := c.Status().State; st != Creating && st != Gone {
			listed = append(listed, c)
		}
	}
	return listed
}

// inPod returns the pod's containers, also those being created.
func (s *Service) inPod(id string) []*Container {
	var in []*Container
	for _, c := range s.index.All() {
		if c.rec.Pod == id {
			in = append(in, c)
		}
	}
	return in
}

func (s *Service) directory(id string) string { return filepath.Join(s.StateDir, id) }

// ready says whether containers may be created and started in the pod.
func ready(p *pod.Pod) error {
	if r := p.Record(); r.State != pod.Ready {
		return &pod.TransitionError{From: r.State, Event: "run containers"}
	}
	return nil
}
