package config

import (
	_ "embed"
	"slices"
	"time"
)

// DefaultPath is read when no --config is given; it need not exist.
const DefaultPath = "/etc/berth/config.toml"

//go:embed default.toml
var defaultTOML []byte

// DefaultTOML is the commented default file. Read, it gives Default.
func DefaultTOML() []byte { return slices.Clone(defaultTOML) }

// Default is the configuration of an empty file. It is Go and not a parse of
// default.toml, so that a test can hold each against the other.
func Default() *Config {
	return &Config{
		Root:           "/var/lib/berth",
		State:          "/run/berth",
		DefaultRuntime: "berth",
		Log:            Log{Level: "info", Format: "text"},
		GRPC: GRPC{
			MaxRecvMessageSize: 16 << 20,
			MaxSendMessageSize: 16 << 20,
		},
		Image: Image{
			RegistryConfigDir:   "/etc/berth/certs.d",
			MaxConcurrentLayers: 6,
			PullProgressTimeout: Duration{5 * time.Minute},
			Pinned:              []string{},
		},
		CNI: CNI{
			ConfDir:        "/etc/cni/net.d",
			BinDirs:        []string{"/opt/cni/bin", "/usr/lib/cni"},
			MaxConfNum:     1,
			BuiltinBridge:  "berth0",
			BuiltinSubnets: []string{"10.86.0.0/16", "fd86:be27:4a11::/64"},
		},
		Container: Container{
			// What systemd gives a service; containerd's packages do the same.
			Rlimits:                 map[string]Rlimit{"nofile": {Soft: 1024, Hard: 524288}},
			EnableUnprivilegedPorts: true,
			EnableUnprivilegedICMP:  true,
			AppArmorProfile:         "berth-default",
			CDISpecDirs:             []string{"/etc/cdi", "/var/run/cdi"},
			KillTimeout:             Duration{10 * time.Second},
			ExecDrainTimeout:        Duration{time.Second},
		},
		Tracing: Tracing{Protocol: "grpc", SamplingRatio: 1},
		Streaming: Streaming{
			Address:         "127.0.0.1",
			IdleTimeout:     Duration{4 * time.Hour}, // the kubelet's --streaming-connection-idle-timeout
			CreationTimeout: Duration{30 * time.Second},
		},
		NRI: NRI{
			Enable:              true,
			PluginPath:          "/opt/nri/plugins",
			PluginConfigPath:    "/etc/nri/conf.d",
			RegistrationTimeout: Duration{5 * time.Second}, // the library's defaults
			RequestTimeout:      Duration{2 * time.Second},
			Validator:           NRIValidator{RequiredPlugins: []string{}},
		},
		Runtimes: map[string]Runtime{"berth": {Type: "embedded", PodAnnotations: []string{}, ContainerAnnotations: []string{}}},
	}
}
