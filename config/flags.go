package config

import (
	"errors"
	"path/filepath"
)

// Overrides are the command-line flags of berth serve; nil means not given.
type Overrides struct {
	Root              *string
	State             *string
	Listen            *string
	RegistryConfigDir *string
	CNIConfDir        *string
	CNIBinDirs        []string
	BuiltinNetwork    *bool
	LogLevel          *string
	LogFormat         *string
}

// apply lets the flags win. Paths in flags may be relative to where the
// command was typed; paths in files may not, as a daemon's directory is
// nobody's business.
func (o Overrides) apply(c *Config) error {
	var problems []error
	set := func(key, flag string, field *string, value *string, path bool) {
		if value == nil {
			return
		}
		v := *value
		if path && v != "" {
			abs, err := filepath.Abs(v)
			if err != nil {
				problems = append(problems, &Problem{File: flag, Key: key, Reason: err.Error()})
				return
			}
			v = abs
		}
		*field = v
		c.origin[key] = flag
	}
	if o.Listen != nil {
		listen := trimScheme(*o.Listen)
		o.Listen = &listen
	}
	set("root", "--root", &c.Root, o.Root, true)
	set("state", "--state", &c.State, o.State, true)
	set("listen", "--listen", &c.Listen, o.Listen, true)
	set("image.registry_config_dir", "--registry-config", &c.Image.RegistryConfigDir, o.RegistryConfigDir, true)
	set("cni.conf_dir", "--cni-conf-dir", &c.CNI.ConfDir, o.CNIConfDir, true)
	set("log.level", "--log-level", &c.Log.Level, o.LogLevel, false)
	set("log.format", "--log-format", &c.Log.Format, o.LogFormat, false)
	if o.CNIBinDirs != nil {
		c.CNI.BinDirs = make([]string, len(o.CNIBinDirs))
		for i := range o.CNIBinDirs {
			set("cni.bin_dirs", "--cni-bin-dir", &c.CNI.BinDirs[i], &o.CNIBinDirs[i], true)
		}
	}
	if o.BuiltinNetwork != nil {
		c.CNI.BuiltinNetwork = *o.BuiltinNetwork
		c.origin["cni.builtin_network"] = "--builtin-network"
	}
	return errors.Join(problems...)
}
