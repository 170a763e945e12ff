package nri

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/berth-cri/berth/runtime/cdi"
	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/containerd/errdefs"
	lib "github.com/containerd/nri/pkg/adaptation"
	nrilog "github.com/containerd/nri/pkg/log"
	validator "github.com/containerd/nri/plugins/default-validator/builtin"
)

// Validator says what plugins may not change and which of them must be there.
type Validator = validator.DefaultValidatorConfig

// Pods and Containers are what plugins get to see and to change.
type (
	Pods interface {
		Get(id string) (*pod.Pod, error)
		List() []*pod.Pod
	}
	Containers interface {
		List() []*container.Container
		Set(ctx context.Context, id string, change container.Change) error
		Stop(ctx context.Context, id string, grace time.Duration) error
	}
)

// Options of a Service.
type Options struct {
	Version string // of Berth

	Socket             string
	MustListen         bool // a socket that another serves is an error
	DisableConnections bool

	PluginDir, ConfigDir string
	Validator            Validator
	Settings             Settings // of the beginning

	Pods       Pods
	Containers Containers
	Log        *slog.Logger
}

// Settings are what Configure can change at any time.
type Settings struct {
	CDI *cdi.Directories
	// The timeouts belong to the process: the library has one pair.
	RegistrationTimeout, RequestTimeout time.Duration
}

// Service speaks with the plugins of the node. It is a pod.Plugins and a
// container.Plugins.
type Service struct {
	Options
	lib      *lib.Adaptation
	settings atomic.Pointer[Settings]
	plugins  atomic.Int64 // how many are there; one that has just died may be counted
	known    registry
}

// New makes a service without plugins; Start lets them come.
func New(o Options) (*Service, error) {
	s := &Service{Options: o}
	nrilog.Set(logger{o.Log})
	s.Configure(o.Settings)
	options := []lib.Option{
		lib.WithPluginPath(o.PluginDir), lib.WithPluginConfigPath(o.ConfigDir), lib.WithSocketPath(o.Socket),
		lib.WithMetrics(counter{s}), lib.WithDefaultValidator(&o.Validator),
		s.evictions(),
	}
	if o.DisableConnections {
		options = append(options, lib.WithDisabledExternalConnections())
	} else if err := free(o.Socket); err != nil {
		if o.MustListen {
			return nil, fmt.Errorf("NRI: %w", err)
		}
		o.Log.Error("no plugin can connect by NRI: name another socket in nri.socket_path, or set nri.disable_connections", "error", err)
		options = append(options, lib.WithDisabledExternalConnections())
	}
	var err error
	if s.lib, err = lib.New("berth", o.Version, s.synchronize, s.unsolicited, options...); err != nil {
		return nil, fmt.Errorf("NRI: %w", err)
	}
	return s, nil
}

// Configure makes the settings those of every call that begins from now on.
func (s *Service) Configure(set Settings) {
	lib.SetPluginRegistrationTimeout(set.RegistrationTimeout)
	lib.SetPluginRequestTimeout(set.RequestTimeout)
	s.settings.Store(&set)
}

// Start starts the plugins of the node and lets others connect. To be called when
// the states of all pods and containers are true.
func (s *Service) Start() error {
	if err := s.lib.Start(); err != nil {
		return fmt.Errorf("NRI: %w", err)
	}
	return nil
}

// Close ends the plugins that Start has started, and the socket.
func (s *Service) Close() { s.lib.Stop() }

// Hold is for pod.Plugins and container.Plugins.
func (s *Service) Hold() (release func()) { return s.lib.BlockPluginSync().Unblock }

// active says whether there is anybody to ask. It is asked under a Hold where
// a plugin must not be missed.
func (s *Service) active() bool { return s.plugins.Load() > 0 }

// counter hears how many plugins there are.
type counter struct{ s *Service }

func (c counter) UpdatePluginCount(n int)                         { c.s.plugins.Store(int64(n)) }
func (counter) RecordPluginInvocation(string, string, error)      {}
func (counter) RecordPluginLatency(string, string, time.Duration) {}
func (counter) RecordPluginAdjustments(string, string, *lib.ContainerAdjustment, int, int) {
}

// refused gives an answer of the plugins the kind that clients get, whatever code
// the plugin chose: its NotFound is not ours.
func refused(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%s: %w", err, errdefs.ErrFailedPrecondition)
}

// logger is the daemon's log for the library.
type logger struct{ log *slog.Logger }

func (l logger) Debugf(ctx context.Context, f string, a ...any) { l.write(ctx, slog.LevelDebug, f, a) }
func (l logger) Infof(ctx context.Context, f string, a ...any)  { l.write(ctx, slog.LevelInfo, f, a) }
func (l logger) Warnf(ctx context.Context, f string, a ...any)  { l.write(ctx, slog.LevelWarn, f, a) }
func (l logger) Errorf(ctx context.Context, f string, a ...any) { l.write(ctx, slog.LevelError, f, a) }

func (l logger) write(ctx context.Context, level slog.Level, format string, args []any) {
	if l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, fmt.Sprintf("NRI: "+format, args...))
	}
}
