package main

import (
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-cri/berth/cni/network"
	"github.com/berth-cri/berth/config"
	"github.com/berth-cri/berth/imageservice"
	"github.com/berth-cri/berth/runtime/apparmor"
	"github.com/berth-cri/berth/runtime/cdi"
	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/nri"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/berth-cri/berth/runtime/spec"
)

// liveSettings are what follows from the keys that can change while the daemon
// runs, and from no other: a test holds both.
type liveSettings struct {
	level      slog.Level
	images     imageservice.Settings
	network    network.Settings
	pods       pod.Settings
	containers container.Settings
	idle       time.Duration // of streams
	apparmor   *apparmor.AppArmor
	plugins    nri.Settings
}

// settingsOf reads the files that the configuration names.
func settingsOf(cfg *config.Config, host spec.Host) (*liveSettings, error) {
	node, err := specNode(cfg, host)
	if err != nil {
		return nil, err
	}
	aa := openAppArmor(cfg.Container)
	devices := cdi.Open(cfg.Container.CDISpecDirs)
	handlers, err := openHandlers(cfg)
	if err != nil {
		return nil, err
	}
	return &liveSettings{
		apparmor: aa,
		level:    cfg.Log.SlogLevel(),
		images: imageservice.Settings{
			HostsDir:            cfg.Image.RegistryConfigDir,
			MaxConcurrentLayers: cfg.Image.MaxConcurrentLayers,
			ProgressTimeout:     cfg.Image.PullProgressTimeout.Duration,
			Pinned:              cfg.Image.Pinned,
		},
		network: network.Settings{
			ConfDir:        cfg.CNI.ConfDir,
			BinDirs:        cfg.CNI.BinDirs,
			MaxConfNum:     networks(cfg.CNI),
			ConfTemplate:   cfg.CNI.ConfTemplate,
			BuiltinNetwork: cfg.CNI.BuiltinNetwork,
			BuiltinBridge:  cfg.CNI.BuiltinBridge,
			BuiltinSubnets: cfg.CNI.BuiltinSubnets,
		},
		pods: pod.Settings{Handlers: handlers, Sysctls: sysctls(cfg.Container)},
		containers: container.Settings{
			Spec:        node,
			Handlers:    handlers,
			CDI:         devices,
			AppArmor:    aa,
			KillTimeout: cfg.Container.KillTimeout.Duration,
			Drain:       cfg.Container.ExecDrainTimeout.Duration,
		},
		idle: cfg.Streaming.IdleTimeout.Duration,
		plugins: nri.Settings{
			CDI:                 devices,
			RegistrationTimeout: cfg.NRI.RegistrationTimeout.Duration,
			RequestTimeout:      cfg.NRI.RequestTimeout.Duration,
		},
	}, nil
}

// prepare checks the settings with everybody who takes them. Nothing has changed
// before use is called, which cannot fail. Each service swaps one pointer, and
// each request takes it once.
func (d *daemonParts) prepare(cfg *config.Config, set *liveSettings) (use func(), err error) {
	images, err := d.images.Prepare(set.images)
	if err != nil {
		return nil, cfg.Blame("image.pinned", err)
	}
	network, err := d.network.Prepare(set.network)
	if err != nil {
		return nil, cfg.Blame("cni.builtin_subnets", err)
	}
	others, err := d.others.prepare(cfg, set)
	if err != nil {
		return nil, err
	}
	return func() {
		others()
		logLevel.Set(set.level)
		images()
		network()
		d.pods.Configure(set.pods)
		d.all.Configure(set.containers)
		if d.plugins != nil {
			d.plugins.Configure(set.plugins)
		}
		d.streams.SetIdleTimeout(set.idle)
		go loadAppArmor(set.apparmor, d.log)
	}, nil
}

// networks is how many configurations a pod is attached to; the network's own
// word for all is a negative number.
func networks(c config.CNI) int {
	if c.MaxConfNum == 0 {
		return -1
	}
	return c.MaxConfNum
}

// sysctls are what pods with a network of their own get unless they say otherwise.
func sysctls(c config.Container) map[string]string {
	all := map[string]string{}
	if c.EnableUnprivilegedPorts {
		all["net.ipv4.ip_unprivileged_port_start"] = "0"
	}
	if c.EnableUnprivilegedICMP {
		all["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	return all
}

// specNode is what all containers of the node share.
func specNode(cfg *config.Config, host spec.Host) (_ spec.Node, err error) {
	c := cfg.Container
	node := spec.Node{Host: host}
	for name, limit := range c.Rlimits {
		node.Rlimits = append(node.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: limit.Soft, Hard: limit.Hard})
	}
	slices.SortFunc(node.Rlimits, func(a, b specs.POSIXRlimit) int { return strings.Compare(a.Type, b.Type) })
	if c.SeccompProfile != "" {
		if node.SeccompDefault, err = os.ReadFile(c.SeccompProfile); err != nil {
			return spec.Node{}, cfg.Blame("container.seccomp_profile", err)
		}
	}
	return node, nil
}
