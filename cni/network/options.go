package network

import (
	"log/slog"
	"path/filepath"
	"time"
)

// Options of a Manager. The zero value of a field is the default given there.
type Options struct {
	ConfDir  string   // /etc/cni/net.d
	BinDirs  []string // /opt/cni/bin
	StateDir string   // records; no default; on a disk
	CacheDir string   // libcni's results: StateDir/results is below it; StateDir

	// MaxConfNum is how many configurations, in lexical order of their files,
	// a pod is attached to, as eth0, eth1, …: 1. Negative: all.
	MaxConfNum int

	// ConfTemplate is a text/template of a conflist that SetPodCIDR renders into
	// ConfDir while there is none. Empty: SetPodCIDR does nothing.
	ConfTemplate string

	// BuiltinNetwork makes the network below instead of reading ConfDir.
	BuiltinNetwork  bool
	BuiltinBridge   string   // berth0
	BuiltinSubnets  []string // 10.213.0.0/16, fd00:be27::/64; at most one per family
	BuiltinLeaseDir string   // StateDir/networks

	// GC sends the CNI GC command in Manager.GC. It tells the plugins to drop
	// all attachments that are not ours, those of another runtime too.
	GC bool

	// Timeout bounds what the plugins of one network take for one ADD or DEL:
	// 2 minutes.
	Timeout time.Duration

	Logger *slog.Logger // slog.Default()
}

func (o *Options) setDefaults() {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&o.ConfDir, "/etc/cni/net.d")
	if len(o.BinDirs) == 0 {
		o.BinDirs = []string{"/opt/cni/bin"}
	}
	def(&o.CacheDir, o.StateDir)
	if o.MaxConfNum == 0 {
		o.MaxConfNum = 1
	}
	def(&o.BuiltinBridge, "berth0")
	if len(o.BuiltinSubnets) == 0 {
		o.BuiltinSubnets = []string{"10.213.0.0/16", "fd00:be27::/64"}
	}
	def(&o.BuiltinLeaseDir, filepath.Join(o.StateDir, "networks"))
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}
