package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// Config is the whole configuration. default.toml explains each key to its
// user; the comments here say only what the code needs to know beyond that.
type Config struct {
	Root                string `toml:"root"`
	State               string `toml:"state"`
	Listen              string `toml:"listen"` // after Load: a plain path, never empty
	CgroupDriver        string `toml:"cgroup_driver"`
	DefaultCgroupParent string `toml:"default_cgroup_parent"`

	Log       Log                `toml:"log"`
	Helpers   Helpers            `toml:"helpers"`
	GRPC      GRPC               `toml:"grpc"`
	Image     Image              `toml:"image"`
	CNI       CNI                `toml:"cni"`
	Container Container          `toml:"container"`
	Streaming Streaming          `toml:"streaming"`
	Runtimes  map[string]Runtime `toml:"runtimes"`

	// origin tells which file or flag gave a key, for error messages.
	origin map[string]string
	// files are those that were read, in order.
	files []string
}

// Log says what the daemon writes to its standard error.
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// SlogLevel is the level in the logger's own type.
func (l Log) SlogLevel() slog.Level {
	var level slog.Level
	// Validate has seen the text; the zero value is info.
	_ = level.UnmarshalText([]byte(l.Level))
	return level
}

// Helpers are the programs that ship with the daemon. Empty means: beside the
// berth executable. Use MonitorPath and InitPath.
type Helpers struct {
	Monitor string `toml:"monitor"`
	Init    string `toml:"init"`
}

// GRPC bounds the messages of the CRI socket.
type GRPC struct {
	MaxRecvMessageSize Size `toml:"max_recv_message_size"`
	MaxSendMessageSize Size `toml:"max_send_message_size"`
}

// Image is about registries and pulls.
type Image struct {
	RegistryConfigDir   string   `toml:"registry_config_dir"`
	MaxConcurrentLayers int      `toml:"max_concurrent_layers"`
	PullProgressTimeout Duration `toml:"pull_progress_timeout"` // 0: never
	Pinned              []string `toml:"pinned"`
}

// CNI is about the pod network.
type CNI struct {
	ConfDir        string   `toml:"conf_dir"`
	BinDirs        []string `toml:"bin_dirs"`
	MaxConfNum     int      `toml:"max_conf_num"` // 0: all
	ConfTemplate   string   `toml:"conf_template"`
	BuiltinNetwork bool     `toml:"builtin_network"`
	BuiltinBridge  string   `toml:"builtin_bridge"`
	BuiltinSubnets []string `toml:"builtin_subnets"`
}

// Container holds what every container gets unless the CRI request says
// otherwise, and the bounds of waiting for one.
type Container struct {
	Rlimits                 map[string]Rlimit `toml:"rlimits"` // keys without RLIMIT_, lower case
	EnableUnprivilegedPorts bool              `toml:"enable_unprivileged_ports"`
	EnableUnprivilegedICMP  bool              `toml:"enable_unprivileged_icmp"`
	SeccompProfile          string            `toml:"seccomp_profile"` // empty: the built-in one
	CDISpecDirs             []string          `toml:"cdi_spec_dirs"`
	KillTimeout             Duration          `toml:"kill_timeout"`
	ExecDrainTimeout        Duration          `toml:"exec_drain_timeout"`
}

// Streaming is about the server of exec, attach and port-forward.
type Streaming struct {
	Address         string   `toml:"address"` // an IP address
	Port            int      `toml:"port"`    // 0: any
	TLS             bool     `toml:"tls"`
	TLSCertFile     string   `toml:"tls_cert_file"` // empty, with the next: self-signed
	TLSKeyFile      string   `toml:"tls_key_file"`
	IdleTimeout     Duration `toml:"idle_timeout"` // 0: never
	CreationTimeout Duration `toml:"creation_timeout"`
}

// Runtime is one handler, a [runtimes.NAME] table.
type Runtime struct {
	Type string `toml:"type"`
}

// Files are the files that this configuration was read from, in order.
func (c *Config) Files() []string { return c.files }

// MonitorPath is the berth-monitor program to run.
func (c *Config) MonitorPath() (string, error) {
	return helperPath(c.Helpers.Monitor, "berth-monitor")
}

// InitPath is the berth-init program to run.
func (c *Config) InitPath() (string, error) {
	return helperPath(c.Helpers.Init, "berth-init")
}

func helperPath(set, name string) (string, error) {
	path := set
	if path == "" {
		exe, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find %s beside the berth executable: %w", name, err)
		}
		// A symlink such as /usr/bin/berth -> /opt/berth/bin/berth must lead
		// to the folder where the helpers really lie.
		if exe, err = filepath.EvalSymlinks(exe); err != nil {
			return "", fmt.Errorf("find %s beside the berth executable: %w", name, err)
		}
		path = filepath.Join(filepath.Dir(exe), name)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("find %s: %s is not an executable file", name, path)
	}
	return path, nil
}
