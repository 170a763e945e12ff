package main

import (
	"cmp"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/config"
	"github.com/berth-cri/berth/telemetry"
)

// settings are the flags that serve and config check share.
type settings struct {
	file              string
	root              string
	state             string
	listen            string
	registryConfigDir string
	cniConfDir        string
	cniBinDirs        []string
	builtinNetwork    bool
	logLevel          string
	logFormat         string
}

func (s *settings) register(f *pflag.FlagSet) {
	f.StringVarP(&s.file, "config", "c", "", "configuration `FILE`; its drop-ins are config.d/*.toml beside it (default "+config.DefaultPath+", if there is one)")
	f.StringVar(&s.root, "root", "", "`DIR` on a disk for images and writable layers (default /var/lib/berth)")
	f.StringVar(&s.state, "state", "", "`DIR` on a tmpfs for records, sockets and pipes (default /run/berth)")
	f.StringVar(&s.listen, "listen", "", "`PATH` of the CRI socket (default berth.sock in the state directory)")
	f.StringVar(&s.registryConfigDir, "registry-config", "", "`DIR` with HOST/hosts.toml files, as containerd's certs.d (default /etc/berth/certs.d)")
	f.StringVar(&s.cniConfDir, "cni-conf-dir", "", "`DIR` with network configurations (default /etc/cni/net.d)")
	f.StringArrayVar(&s.cniBinDirs, "cni-bin-dir", nil, "`DIR` with network plugins that are not built in; may be repeated (default /opt/cni/bin and /usr/lib/cni)")
	f.BoolVar(&s.builtinNetwork, "builtin-network", false, "use a bridge of Berth's own instead of a network configuration")
	f.StringVar(&s.logLevel, "log-level", "", "debug, info, warn or error (default info)")
	f.StringVar(&s.logFormat, "log-format", "", "text or json (default text)")
}

// load reads the configuration with those flags that were given.
func (s *settings) load(f *pflag.FlagSet) (*config.Config, error) {
	return config.Load(s.file, s.overrides(f))
}

// overrides are those flags that were given.
func (s *settings) overrides(f *pflag.FlagSet) config.Overrides {
	given := func(name string, value *string) *string {
		if f.Changed(name) {
			return value
		}
		return nil
	}
	o := config.Overrides{
		Root:              given("root", &s.root),
		State:             given("state", &s.state),
		Listen:            given("listen", &s.listen),
		RegistryConfigDir: given("registry-config", &s.registryConfigDir),
		CNIConfDir:        given("cni-conf-dir", &s.cniConfDir),
		CNIBinDirs:        s.cniBinDirs,
		LogLevel:          given("log-level", &s.logLevel),
		LogFormat:         given("log-format", &s.logFormat),
	}
	if f.Changed("builtin-network") {
		o.BuiltinNetwork = &s.builtinNetwork
	}
	return o
}

// defaults is what there is to go by when the files are not valid.
func (s *settings) defaults() *config.Config {
	cfg := config.Default()
	cfg.Root, cfg.State = cmp.Or(s.root, cfg.Root), cmp.Or(s.state, cfg.State)
	return cfg
}

// source is where a daemon's configuration is read from, again and again.
func (s *settings) source(f *pflag.FlagSet) (source, error) {
	o, err := s.overrides(f).Absolute()
	if err != nil {
		return source{}, err
	}
	src := source{File: s.file, Flags: o}
	if src.File != "" {
		src.File, err = filepath.Abs(src.File)
	}
	return src, err
}

func serveCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon in the foreground",
		Long: `Run the daemon in the foreground. It logs to standard error, tells systemd when
it is ready, and stops on SIGTERM or SIGINT. Containers do not notice: they go
on, and the next daemon with the same state directory takes them over.

On SIGHUP, and when a file of the configuration changes, it reads them anew: what
can change while it runs does so for the requests that follow, the rest at the
next start. "berth config diff" tells which. Files that are not valid change
nothing.

Flags win over files. Several daemons with different --root, --state and
--listen run side by side.`,
		Example: `  berth serve --builtin-network
  berth serve --root /srv/b --state /run/b --listen /run/b/cri.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := s.source(cmd.Flags())
			if err != nil {
				return err
			}
			cfg, err := from.load()
			if err != nil {
				return err
			}
			// From the beginning: unasked for, the signal would end the daemon.
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, unix.SIGHUP)
			slog.SetDefault(newLogger(cfg.Log))
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGTERM, unix.SIGINT)
			defer stop()
			return runServe(ctx, cfg, from, hangup)
		},
	}
	s.register(cmd.Flags())
	return cmd
}

// logLevel can change while the daemon runs.
var logLevel slog.LevelVar

// newLogger writes to standard error, where systemd and a terminal both look.
func newLogger(l config.Log) *slog.Logger {
	logLevel.Set(l.SlogLevel())
	options := &slog.HandlerOptions{Level: &logLevel}
	if l.Format == "json" {
		return slog.New(telemetry.LogHandler(slog.NewJSONHandler(os.Stderr, options)))
	}
	return slog.New(telemetry.LogHandler(slog.NewTextHandler(os.Stderr, options)))
}
