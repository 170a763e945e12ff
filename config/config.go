package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// Config is the whole configuration. default.toml explains each key to its
// user; the comments here say only what the code needs to know beyond that.
//
// Every key says when a running daemon takes up a change: reload:"now", from the
// next request on, or reload:"restart". On a table of the user's own names it
// stands for all below it.
type Config struct {
	Root                string `toml:"root" reload:"restart"`
	State               string `toml:"state" reload:"restart"`
	Listen              string `toml:"listen" reload:"restart"` // after Load: a plain path, never empty
	CgroupDriver        string `toml:"cgroup_driver" reload:"restart"`
	DefaultCgroupParent string `toml:"default_cgroup_parent" reload:"restart"`
	DefaultRuntime      string `toml:"default_runtime" reload:"now"`

	Log       Log                `toml:"log"`
	Helpers   Helpers            `toml:"helpers"`
	GRPC      GRPC               `toml:"grpc"`
	Image     Image              `toml:"image"`
	CNI       CNI                `toml:"cni"`
	Container Container          `toml:"container"`
	Metrics   Metrics            `toml:"metrics"`
	Tracing   Tracing            `toml:"tracing"`
	Streaming Streaming          `toml:"streaming"`
	NRI       NRI                `toml:"nri"`
	Runtimes  map[string]Runtime `toml:"runtimes" reload:"now"`

	// origin tells which file or flag gave a key, for error messages.
	origin map[string]string
	// files are those that were read, in order.
	files []string
}

// Log says what the daemon writes to its standard error.
type Log struct {
	Level  string `toml:"level" reload:"now"`
	Format string `toml:"format" reload:"restart"`
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
	Monitor string `toml:"monitor" reload:"restart"`
	Init    string `toml:"init" reload:"restart"`
}

// GRPC bounds the messages of the CRI socket.
type GRPC struct {
	MaxRecvMessageSize Size `toml:"max_recv_message_size" reload:"restart"`
	MaxSendMessageSize Size `toml:"max_send_message_size" reload:"restart"`
}

// Image is about registries and pulls.
type Image struct {
	RegistryConfigDir   string   `toml:"registry_config_dir" reload:"now"`
	MaxConcurrentLayers int      `toml:"max_concurrent_layers" reload:"now"`
	PullProgressTimeout Duration `toml:"pull_progress_timeout" reload:"now"` // 0: never
	Pinned              []string `toml:"pinned" reload:"now"`
}

// CNI is about the pod network.
type CNI struct {
	ConfDir        string   `toml:"conf_dir" reload:"now"`
	BinDirs        []string `toml:"bin_dirs" reload:"now"`
	MaxConfNum     int      `toml:"max_conf_num" reload:"now"` // 0: all
	ConfTemplate   string   `toml:"conf_template" reload:"now"`
	BuiltinNetwork bool     `toml:"builtin_network" reload:"now"`
	BuiltinBridge  string   `toml:"builtin_bridge" reload:"now"`
	BuiltinSubnets []string `toml:"builtin_subnets" reload:"now"`
}

// Container holds what every container gets unless the CRI request says
// otherwise, and the bounds of waiting for one.
type Container struct {
	Rlimits                 map[string]Rlimit `toml:"rlimits" reload:"now"` // keys without RLIMIT_, lower case
	EnableUnprivilegedPorts bool              `toml:"enable_unprivileged_ports" reload:"now"`
	EnableUnprivilegedICMP  bool              `toml:"enable_unprivileged_icmp" reload:"now"`
	SeccompProfile          string            `toml:"seccomp_profile" reload:"now"` // empty: the built-in one
	AppArmorProfile         string            `toml:"apparmor_profile" reload:"now"`
	DisableAppArmor         bool              `toml:"disable_apparmor" reload:"now"`
	EnableSELinux           bool              `toml:"enable_selinux" reload:"restart"`
	CDISpecDirs             []string          `toml:"cdi_spec_dirs" reload:"now"`
	KillTimeout             Duration          `toml:"kill_timeout" reload:"now"`
	ExecDrainTimeout        Duration          `toml:"exec_drain_timeout" reload:"now"`
}

// Streaming is about the server of exec, attach and port-forward.
type Streaming struct {
	Address         string   `toml:"address" reload:"restart"` // an IP address
	Port            int      `toml:"port" reload:"restart"`    // 0: any
	TLS             bool     `toml:"tls" reload:"restart"`
	TLSCertFile     string   `toml:"tls_cert_file" reload:"restart"` // empty, with the next: self-signed
	TLSKeyFile      string   `toml:"tls_key_file" reload:"restart"`
	IdleTimeout     Duration `toml:"idle_timeout" reload:"now"` // 0: never
	CreationTimeout Duration `toml:"creation_timeout" reload:"restart"`
}

// NRI is about plugins of the Node Resource Interface. Use NRISocket.
type NRI struct {
	Enable              bool         `toml:"enable" reload:"restart"`
	SocketPath          string       `toml:"socket_path" reload:"restart"`
	DisableConnections  bool         `toml:"disable_connections" reload:"restart"`
	PluginPath          string       `toml:"plugin_path" reload:"restart"`
	PluginConfigPath    string       `toml:"plugin_config_path" reload:"restart"`
	RegistrationTimeout Duration     `toml:"plugin_registration_timeout" reload:"now"`
	RequestTimeout      Duration     `toml:"plugin_request_timeout" reload:"now"`
	Validator           NRIValidator `toml:"default_validator"`
}

// NRIValidator says what plugins may not change. The names are those of
// containerd.
type NRIValidator struct {
	Enable                 bool     `toml:"enable" reload:"restart"`
	RejectHooks            bool     `toml:"reject_oci_hook_adjustment" reload:"restart"`
	RejectDefaultSeccomp   bool     `toml:"reject_runtime_default_seccomp_adjustment" reload:"restart"`
	RejectUnconfined       bool     `toml:"reject_unconfined_seccomp_adjustment" reload:"restart"`
	RejectLocalSeccomp     bool     `toml:"reject_custom_seccomp_adjustment" reload:"restart"`
	RejectNamespaces       bool     `toml:"reject_namespace_adjustment" reload:"restart"`
	RejectSysctls          bool     `toml:"reject_sysctl_adjustment" reload:"restart"`
	RequiredPlugins        []string `toml:"required_plugins" reload:"restart"`
	MissingPluginTolerance string   `toml:"tolerate_missing_plugins_annotation" reload:"restart"`
}

// Metrics is about the page for Prometheus.
type Metrics struct {
	Address string `toml:"address" reload:"restart"` // HOST:PORT or unix:///PATH; empty: none
}

// Tracing is about the way out for spans.
type Tracing struct {
	Endpoint      string  `toml:"endpoint" reload:"restart"` // HOST:PORT; empty: none
	Protocol      string  `toml:"protocol" reload:"restart"` // grpc or http
	Insecure      bool    `toml:"insecure" reload:"restart"`
	SamplingRatio float64 `toml:"sampling_ratio" reload:"restart"`
}

// Runtime is one handler, a [runtimes.NAME] table.
type Runtime struct {
	Type                         string   `toml:"type"`
	Path                         string   `toml:"path"` // oci only
	Root                         string   `toml:"root"` // oci only; empty: below State
	PodAnnotations               []string `toml:"pod_annotations"`
	ContainerAnnotations         []string `toml:"container_annotations"`
	CNIConfDir                   string   `toml:"cni_conf_dir"` // empty: that of [cni]
	PrivilegedWithoutHostDevices bool     `toml:"privileged_without_host_devices"`
}

// Files are the files that this configuration was read from, in order.
func (c *Config) Files() []string { return c.files }

// NRISocket is where NRI plugins connect; chosen says that the configuration
// names it. A daemon on a state directory of its own, beside the node's, leaves
// the well-known socket alone.
func (c *Config) NRISocket() (path string, chosen bool) {
	switch {
	case c.NRI.SocketPath != "":
		return c.NRI.SocketPath, true
	case c.State != Default().State:
		return filepath.Join(c.State, "nri.sock"), false
	}
	return "/var/run/nri/nri.sock", false
}

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
