package config

import (
	"errors"
	"path/filepath"
	"slices"
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
		v, err := *value, error(nil)
		if path {
			v, err = absolute(v)
		}
		if err != nil {
			problems = append(problems, &Problem{File: flag, Key: key, Reason: err.Error()})
			return
		}
		*field = v
		c.origin[key] = flag
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

// Absolute are the same flags for who stands in another directory.
func (o Overrides) Absolute() (Overrides, error) {
	var errs []error
	for _, p := range []**string{&o.Root, &o.State, &o.Listen, &o.RegistryConfigDir, &o.CNIConfDir} {
		if *p != nil {
			v, err := absolute(**p)
			errs = append(errs, err)
			*p = &v
		}
	}
	o.CNIBinDirs = slices.Clone(o.CNIBinDirs)
	for i := range o.CNIBinDirs {
		v, err := absolute(o.CNIBinDirs[i])
		errs = append(errs, err)
		o.CNIBinDirs[i] = v
	}
	return o, errors.Join(errs...)
}

// absolute leaves an empty path, which stands for a default.
func absolute(path string) (string, error) {
	path = trimScheme(path)
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}
