package main

import (
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/config"
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
	return config.Load(s.file, o)
}

func serveCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon in the foreground",
		Long: `Run the daemon in the foreground. It logs to standard error, tells systemd when
it is ready, and stops on SIGTERM or SIGINT. Containers do not notice: they go
on, and the next daemon with the same state directory takes them over.

Flags win over files. Several daemons with different --root, --state and
--listen run side by side.`,
		Example: `  berth serve --builtin-network
  berth serve --root /srv/b --state /run/b --listen /run/b/cri.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := s.load(cmd.Flags())
			if err != nil {
				return err
			}
			slog.SetDefault(newLogger(cfg.Log))
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGTERM, unix.SIGINT)
			defer stop()
			return runServe(ctx, cfg)
		},
	}
	s.register(cmd.Flags())
	return cmd
}

// newLogger writes to standard error, where systemd and a terminal both look.
func newLogger(l config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.SlogLevel()}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}
