package network

import (
	"cmp"
	"log/slog"
	"path/filepath"
	"time"
)

// Options of a Manager. The zero value of a field is the default given there.
type Options struct {
	Settings
	StateDir string // records; no default; on a disk
	CacheDir string // libcni's results: StateDir/results is below it; StateDir

	BuiltinLeaseDir string // StateDir/networks

	// GC sends the CNI GC command in Manager.GC. It tells the plugins to drop
	// all attachments that are not ours, those of another runtime too.
	GC bool

	// Timeout bounds what the plugins of one network take for one ADD or DEL:
	// 2 minutes.
	Timeout time.Duration

	Logger *slog.Logger // slog.Default()
}

// Settings are what Prepare can change while pods are attached: those stay as
// they are, and are detached by what they were attached by.
type Settings struct {
	ConfDir string   // /etc/cni/net.d
	BinDirs []string // /opt/cni/bin

	// MaxConfNum is how many configurations, in lexical order of their files,
	// a pod is attached to, as eth0, eth1, …: 1. Negative: all.
	MaxConfNum int

	// ConfTemplate is a text/template of a conflist that SetPodCIDR renders into
	// ConfDir while there is none. Empty: SetPodCIDR does nothing.
	ConfTemplate string

	// BuiltinNetwork makes the network below instead of reading ConfDir.
	BuiltinNetwork bool
	BuiltinBridge  string   // berth0
	BuiltinSubnets []string // 10.213.0.0/16, fd00:be27::/64; at most one per family
}

func (o *Options) setDefaults() {
	o.Settings.setDefaults()
	o.CacheDir = cmp.Or(o.CacheDir, o.StateDir)
	o.BuiltinLeaseDir = cmp.Or(o.BuiltinLeaseDir, filepath.Join(o.StateDir, "networks"))
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

func (s *Settings) setDefaults() {
	s.ConfDir = cmp.Or(s.ConfDir, "/etc/cni/net.d")
	if len(s.BinDirs) == 0 {
		s.BinDirs = []string{"/opt/cni/bin"}
	}
	s.MaxConfNum = cmp.Or(s.MaxConfNum, 1)
	s.BuiltinBridge = cmp.Or(s.BuiltinBridge, "berth0")
	if len(s.BuiltinSubnets) == 0 {
		s.BuiltinSubnets = []string{"10.213.0.0/16", "fd00:be27::/64"}
	}
}
