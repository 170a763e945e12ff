package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-cri/berth/cni/network"
	"github.com/berth-cri/berth/config"
	"github.com/berth-cri/berth/cri"
	"github.com/berth-cri/berth/cri/events"
	"github.com/berth-cri/berth/cri/interceptor"
	"github.com/berth-cri/berth/cri/node"
	"github.com/berth-cri/berth/cri/streaming"
	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/imageservice"
	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/probe"
	"github.com/berth-cri/berth/runtime/cgroup"
	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/berth-cri/berth/runtime/nri"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/berth-cri/berth/runtime/reconcile"
	"github.com/berth-cri/berth/runtime/rootfs"
	"github.com/berth-cri/berth/runtime/spec"
	"github.com/berth-cri/berth/trash"
)

// daemonParts is the daemon put together: the one place that knows who
// implements what.
type daemonParts struct {
	cfg     *config.Config // as it was at the start; loaded has that of now
	log     *slog.Logger
	bin     *trash.Bin
	images  *imageservice.Service
	network *network.Manager
	others  handlerNetworks
	cgroups *cgroup.Manager
	pods    *pod.Service
	all     *container.Service
	streams *streaming.Server
	events  events.Hub
	plugins *nri.Service // nil: switched off
	api     *cri.Server
	node    *reconcile.Reconciler
	userns  func() error // why pods can have no user namespaces, or nil
	host    spec.Host
	loaded  atomic.Pointer[loaded]
}

// runServe runs the daemon until ctx ends.
func runServe(ctx context.Context, cfg *config.Config, from source, hangup <-chan os.Signal) error {
	// The heap is a few MiB, and starting a pod allocates half a MiB of it: at
	// Go's default a garbage collection would come with every other pod.
	debug.SetGCPercent(300)
	log := slog.Default()
	if err := fault.Arm(os.Getenv(fault.Variable)); err != nil {
		return err
	}
	if err := prepareState(cfg.State, log); err != nil {
		return err
	}
	for _, dir := range []string{cfg.Root, cfg.State} {
		unlock, err := lock(dir)
		if err != nil {
			return err
		}
		defer unlock()
	}

	// The socket is there from the first moment: who asks before everything is
	// taken up gets Unavailable, not "connection refused".
	chain := interceptor.New(log)
	listener, err := listen(cfg.Listen)
	if err != nil {
		return err
	}
	traces, err := startTracing(ctx, cfg.Tracing, log)
	if err != nil {
		return err
	}
	options := append(chain.Options(),
		grpc.MaxRecvMsgSize(int(cfg.GRPC.MaxRecvMessageSize)), grpc.MaxSendMsgSize(int(cfg.GRPC.MaxSendMessageSize)))
	if traces != nil {
		defer traces.Close()
		options = append(options, traces.Option())
	}
	server := grpc.NewServer(options...)

	d, err := assemble(cfg, from, log)
	if err != nil {
		return err
	}
	defer d.streams.Close()
	if err := d.node.Restore(); err != nil {
		return err
	}
	supervisor, err := d.supervise(ctx)
	if err != nil {
		return err
	}
	d.api.Monitor = supervisor.Ready
	defer d.images.Close()
	defer supervisor.Close()
	defer d.network.Close()
	defer d.others.close()
	d.api.Register(server)
	page, err := d.serveMetrics(cfg.Metrics.Address, supervisor)
	if err != nil {
		return err
	}
	if page != nil {
		defer page.Close()
	}
	(&node.Server{Images: d.images, Containers: d.all, Pods: d.pods}).Register(server)
	return d.serve(ctx, server, listener, chain, supervisor, hangup)
}

// serve takes up what the last daemon left, answers requests from the moment that
// all of it is true, and ends with ctx.
func (d *daemonParts) serve(ctx context.Context, server *grpc.Server, listener net.Listener, chain *interceptor.Chain, supervisor *monitor.Supervisor, hangup <-chan os.Signal) error {
	served := make(chan error, 2)
	go func() { served <- server.Serve(listener) }()
	go func() { served <- d.streams.Serve() }()
	if err := d.node.Recover(ctx); err != nil {
		server.Stop()
		return err
	}
	if d.plugins != nil { // the states are true, and nothing happens yet that a plugin could miss
		if err := d.plugins.Start(); err != nil {
			server.Stop()
			return err
		}
		defer d.plugins.Close()
	}
	background, cancel := context.WithCancel(ctx)
	reloads := d.followFiles(background, hangup)
	defer reloads.Wait()
	defer cancel()
	chain.Open()
	d.log.Info("serving", "socket", d.cfg.Listen)
	notify(d.log, daemon.SdNotifyReady)

	go func() {
		if err := watchdog(background, d.cfg.Listen, d.log); err != nil {
			d.log.Error("the watchdog is not fed", "error", err)
		}
	}()
	go d.bin.Run(background, func(err error) { d.log.Warn("trash", "error", err) })
	go d.node.Clean(background, supervisor)

	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	d.log.Info("stopping; containers go on")
	notify(d.log, daemon.SdNotifyStopping)
	d.streams.Close() // while the monitor can still be asked to end what they run
	d.events.Close()  // their clients wait for ever else
	d.images.CancelPulls()
	stop(server)
	return nil
}

// stopLimit is what requests under way get to finish at a stop of the daemon.
// What is cut off goes on by itself or is taken up by the next daemon.
const stopLimit = 5 * time.Second

func stop(server *grpc.Server) {
	t := time.AfterFunc(stopLimit, server.Stop)
	defer t.Stop()
	server.GracefulStop()
}

func assemble(cfg *config.Config, from source, log *slog.Logger) (*daemonParts, error) {
	d := &daemonParts{cfg: cfg, log: log, userns: userNamespaces(cfg.Root)}
	var err error
	if d.host, err = spec.DetectHost(); err != nil {
		return nil, fmt.Errorf("look at the host: %w", err)
	}
	set, err := settingsOf(cfg, d.host)
	if err != nil {
		return nil, err
	}
	go loadAppArmor(set.apparmor, log)
	labels := openSELinux(cfg.Container, log)
	if d.bin, err = trash.Open(filepath.Join(cfg.Root, "trash")); err != nil {
		return nil, err
	}
	d.images, err = imageservice.Open(imageservice.Options{
		Root: cfg.Root, Settings: set.images, Bin: d.bin,
	})
	if err != nil {
		return nil, fmt.Errorf("open images: %w", err)
	}
	roots, err := rootfs.Open(cfg.Root, d.bin)
	if err != nil {
		return nil, fmt.Errorf("open root file systems: %w", err)
	}
	d.cgroups, err = cgroup.Open(cgroup.Options{Driver: cfg.CgroupDriver, Parent: cfg.DefaultCgroupParent})
	if err != nil {
		return nil, fmt.Errorf("open cgroups: %w", err)
	}
	networks := network.Options{Settings: set.network, StateDir: filepath.Join(cfg.Root, "cni"), Logger: log}
	d.network, err = network.New(networks)
	if err != nil {
		return nil, fmt.Errorf("open network: %w", err)
	}
	d.others = handlerNetworks{options: networks}
	use, err := d.others.prepare(cfg, set)
	if err != nil {
		return nil, err
	}
	use()
	d.pods, err = pod.New(pod.Options{
		StateDir: filepath.Join(cfg.State, "pods"),
		Network:  d.network, Cgroups: d.cgroups, Settings: set.pods, SELinux: labels, UserNamespaces: d.userns, Log: log,
	})
	if err != nil {
		return nil, err
	}
	d.all, err = container.New(container.Options{
		StateDir: filepath.Join(cfg.State, "containers"),
		Pods:     d.pods, Images: d.images, Rootfs: roots, Cgroups: d.cgroups,
		Settings: set.containers, SELinux: labels, SpoolDir: cfg.Root, Log: log,
	})
	if err != nil {
		return nil, err
	}
	if d.plugins, err = nodePlugins(cfg, d, set.plugins, log); err != nil {
		return nil, err
	}
	if d.streams, err = listenStreams(cfg.Streaming, d, log); err != nil {
		return nil, err
	}
	d.loaded.Store(newLoaded(cfg, from))
	d.api = d.server()
	d.pods.Changed, d.all.Changed = d.api.PodChanged, d.api.ContainerChanged
	d.node = &reconcile.Reconciler{Pods: d.pods, Containers: d.all, Images: d.images, Network: d.network, Cgroups: d.cgroups, Log: log}
	return d, nil
}

// nodePlugins are those of the Node Resource Interface.
func nodePlugins(cfg *config.Config, d *daemonParts, set nri.Settings, log *slog.Logger) (*nri.Service, error) {
	if !cfg.NRI.Enable {
		return nil, nil
	}
	socket, chosen := cfg.NRISocket()
	v := cfg.NRI.Validator
	plugins, err := nri.New(nri.Options{
		Version: version, Socket: socket, MustListen: chosen, DisableConnections: cfg.NRI.DisableConnections,
		PluginDir: cfg.NRI.PluginPath, ConfigDir: cfg.NRI.PluginConfigPath,
		Settings: set,
		Validator: nri.Validator{
			Enable: v.Enable, RejectOCIHookAdjustment: v.RejectHooks,
			RejectRuntimeDefaultSeccompAdjustment: v.RejectDefaultSeccomp, RejectUnconfinedSeccompAdjustment: v.RejectUnconfined,
			RejectCustomSeccompAdjustment: v.RejectLocalSeccomp, RejectNamespaceAdjustment: v.RejectNamespaces,
			RejectSysctlAdjustment: v.RejectSysctls, RequiredPlugins: v.RequiredPlugins,
			TolerateMissingAnnotation: v.MissingPluginTolerance,
		},
		Pods: d.pods, Containers: d.all, Log: log,
	})
	if err != nil {
		return nil, err
	}
	d.pods.Plugins, d.all.Plugins = plugins, plugins
	return plugins, nil
}

func listenStreams(c config.Streaming, d *daemonParts, log *slog.Logger) (*streaming.Server, error) {
	address, err := netip.ParseAddr(c.Address)
	if err != nil {
		return nil, fmt.Errorf("streaming.address: %w", err)
	}
	o := streaming.Options{
		Address:     netip.AddrPortFrom(address, uint16(c.Port)),
		IdleTimeout: c.IdleTimeout.Duration, CreationTimeout: c.CreationTimeout.Duration,
		Containers: d.all, Pods: d.pods, Log: log,
	}
	if c.TLS {
		if o.TLS, err = streaming.Certificate(c.TLSCertFile, c.TLSKeyFile, address); err != nil {
			return nil, err
		}
	}
	return streaming.Listen(o)
}

// supervise connects to the monitor, or starts one, with everything that it
// must watch.
func (d *daemonParts) supervise(ctx context.Context) (*monitor.Supervisor, error) {
	binary, err := d.cfg.MonitorPath()
	if err != nil {
		return nil, err
	}
	initPath, err := d.cfg.InitPath()
	if err != nil {
		return nil, err
	}
	var s *monitor.Supervisor
	connected := make(chan struct{})
	s, err = monitor.Supervise(ctx, monitor.Options{
		Socket:    filepath.Join(d.cfg.State, "monitor.sock"),
		StateDir:  d.cfg.State,
		Binary:    binary,
		Init:      initPath,
		Build:     version,
		Log:       d.log,
		Connected: func(pid int) { settle(pid, d.log) },
		Adopt:     func() []monitor.AdoptRequest { return append(d.pods.Adoptable(), d.all.Adoptable()...) },
		OnExit: func(e monitor.Exit) {
			go func() { // beside each other: what follows an exit takes as long as a cgroup's removal
				<-connected
				d.node.Exited(e, s)
			}()
		},
	})
	if err != nil {
		return nil, err
	}
	d.pods.Attach(s)
	d.all.Attach(s)
	close(connected)
	return s, nil
}

// userNamespaces tries in the background whether pods can have them, since it takes
// a moment; the answer is why not, or nil.
func userNamespaces(root string) func() error {
	answer := make(chan error, 1)
	go func() {
		if err := probe.RemoveLeftovers(root); err != nil {
			slog.Warn("remove what an earlier look at the disk left", "error", err)
		}
		if f := probe.UserNamespacesAt(root); !f.OK {
			answer <- errors.New(f.Why)
		}
		close(answer)
	}()
	return sync.OnceValue(func() error { return <-answer })
}

func (d *daemonParts) server() *cri.Server {
	userns := d.userns() == nil
	handlers := func() []*runtimeapi.RuntimeHandler { return features(d.all.Handlers(), userns) }
	return cri.New(cri.Options{
		Version: version, Pods: d.pods, Containers: d.all, Images: d.images, Network: d.network, Streams: d.streams,
		CgroupDriver: driverOf(d.cgroups), Handlers: handlers, Events: &d.events,
		Features:      &runtimeapi.RuntimeFeatures{SupplementalGroupsPolicy: true, UserNamespacesHostNetwork: userns, MountOptions: true},
		Configuration: func() error { return d.loaded.Load().problem() },
		Info: func() map[string]any {
			return map[string]any{"config": d.loaded.Load(), "apparmor": appArmorText(d.loaded.Load().cfg.Container), "selinux": seLinuxText(d.all.SELinux)}
		},
	})
}

func driverOf(m *cgroup.Manager) runtimeapi.CgroupDriver {
	if m.Driver() == cgroup.Systemd {
		return runtimeapi.CgroupDriver_SYSTEMD
	}
	return runtimeapi.CgroupDriver_CGROUPFS
}

// prepareState sees that the state directory is on a tmpfs: its records must
// not outlive a reboot, and its FIFOs and shared pages must not reach a disk.
func prepareState(dir string, log *slog.Logger) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("state directory %s: %w", dir, err)
	}
	if st.Type == unix.TMPFS_MAGIC {
		return nil
	}
	log.Info("state directory is on no tmpfs: mounting one over it", "dir", dir)
	if err := linux.Mount("berth", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0711"); err != nil {
		return fmt.Errorf("state directory on no tmpfs: %w", err)
	}
	return nil
}

// lock keeps a second daemon from the same directory.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "daemon.lock"), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another berth daemon: %w", dir, err)
	}
	f.Truncate(0)
	f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0) // for people; the lock is what counts
	return func() { f.Close() }, nil
}

// listen replaces the socket that a killed daemon left; the lock on the state
// directory says that none lives.
func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, os.Chmod(path, 0o660)
}

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("tell systemd", "error", err)
	}
}
