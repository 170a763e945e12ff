package monitor

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/fault"
	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci"
)

// Program is the monitor as a process. Version is its build.
type Program struct {
	Version string
	Runtime func(initPath string) (oci.Runtime, error)
}

// Run is the whole program; it returns the exit code.
func (p Program) Run(args []string) int {
	if len(args) > 0 && args[0] == "store" {
		return runStoreProgram(args[1:])
	}
	flags := flag.NewFlagSet("berth-monitor", flag.ContinueOnError)
	var (
		socket   = flags.String("socket", "/run/berth/monitor.sock", "listen on this unix socket")
		state    = flags.String("state", "/run/berth", "directory for monitor.json and monitor.lock")
		initPath = flags.String("init", "", "the berth-init program")
		client   = flags.Int("client-fd", -1, "inherited descriptor of a first client")
		level    = flags.String("log-level", "info", "debug, info, warn or error")
		handover = flags.Int("handover-fd", -1, "inherited descriptor of the state of the program before, after an upgrade")
		version  = flags.Bool("version", false, "print the version and exit")
	)
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *version {
		fmt.Printf("berth-monitor %s protocol %d %s\n", p.Version, Protocol, runtime.Version())
		return 0
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(*level)); err != nil || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "berth-monitor: bad log level or argument:", *level, flags.Args())
		return 2
	}
	log := slog.New(slog.NewTextHandler(boundLog(filepath.Join(*state, ownLogFile), maxOwnLog), &slog.HandlerOptions{Level: l}))
	if err := p.serve(log, *socket, *state, *initPath, *client, *handover); err != nil {
		log.Error("berth-monitor", "error", err)
		return 1
	}
	return 0
}

func (p Program) serve(log *slog.Logger, socket, state, initPath string, client, handover int) error {
	tune()
	// Whatever started us may have left descriptors open: no child gets them.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return os.NewSyscallError("close_range", err)
	}
	unix.Umask(0o022)
	if err := fault.Arm(os.Getenv(fault.Variable)); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_CHILD_SUBREAPER", err)
	}
	protectFromOOM(log)
	// A container is not stopped by a signal to the monitor: it only goes.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	swallow(unix.SIGHUP, unix.SIGPIPE)

	rt, err := p.Runtime(initPath)
	if err != nil {
		return err
	}
	s, err := NewServer(Config{
		Socket: socket, StateDir: state, Build: p.Version, Runtime: rt, Log: log, ReapOrphans: true, Store: true, Handover: handover,
	})
	if err != nil {
		return err
	}
	if client >= 0 {
		sock, err := fileConn(os.NewFile(uintptr(client), "client"))
		if err != nil {
			return fmt.Errorf("first client: %w", err)
		}
		go s.ServeClient(sock)
	}
	log.Info("serving", "socket", socket, "pid", os.Getpid(), "build", p.Version)
	return s.Serve(ctx)
}

// tune is the one place of the Go runtime's knobs. The live heap of 500
// containers is a few MiB: collecting early costs nothing, and a page that is
// not kept is a page for pods.
func tune() {
	debug.SetGCPercent(50)
	runtime.GOMAXPROCS(min(4, runtime.NumCPU()))
}

// protectFromOOM makes the monitor the last to be killed, as far as the host
// allows: a negative value needs CAP_SYS_RESOURCE. A container gets its own
// value from its runtime.
func protectFromOOM(log *slog.Logger) {
	const path, wanted = "/proc/self/oom_score_adj", -999
	if err := linux.WriteKernel(path, strconv.Itoa(wanted)); err != nil {
		log.Info("keep the inherited oom_score_adj", "error", err)
	}
}

// swallow makes signals harmless that come from terminals and readers that
// ended. They are not ignored: that would pass through execve into containers.
func swallow(signals ...os.Signal) { signal.Notify(make(chan os.Signal, 1), signals...) }
