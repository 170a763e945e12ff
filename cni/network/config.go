package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
)

// maxConf bounds a configuration file, in bytes.
const maxConf = 1 << 20

// loaded is what one look at the configuration found.
type loaded struct {
	networks []*libcni.NetworkConfigList
	problems []error // files that were left out
	names    []string
}

// load reads the first max configurations of a directory, in lexical order; a
// file that cannot be used is reported and skipped.
func load(dir string, max int) (l loaded) {
	files, err := confFiles(dir)
	if err != nil {
		l.problems = append(l.problems, err)
		return l
	}
	for _, file := range files {
		if max >= 0 && len(l.networks) == max {
			break
		}
		list, err := readConf(file)
		if err == nil && slices.Contains(l.names, list.Name) {
			err = fmt.Errorf("another file has the network name %q: %w", list.Name, errdefs.ErrAlreadyExists)
		}
		if err != nil {
			l.problems = append(l.problems, fmt.Errorf("%s: %w", file, err))
			continue
		}
		l.networks = append(l.networks, list)
		l.names = append(l.names, list.Name)
	}
	return l
}

func confFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".conf", ".conflist", ".json":
			if !e.IsDir() {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	return files, nil
}

func readConf(file string) (*libcni.NetworkConfigList, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConf+1))
	if err != nil {
		return nil, err
	}
	if filepath.Ext(file) == ".conflist" {
		return parseConfList(b, filepath.Dir(file))
	}
	return parseConf(b)
}

// parseConf reads a single plugin's configuration and makes a list of it.
func parseConf(b []byte) (*libcni.NetworkConfigList, error) {
	if len(b) > maxConf {
		return nil, fmt.Errorf("more than %d bytes: %w", maxConf, errdefs.ErrInvalidArgument)
	}
	conf, err := libcni.NetworkPluginConfFromBytes(b)
	if err != nil {
		return nil, fmt.Errorf("%w (a list has to be named .conflist): %w", err, errdefs.ErrInvalidArgument)
	}
	list, err := json.Marshal(map[string]any{
		"name": conf.Network.Name, "cniVersion": conf.Network.CNIVersion, "plugins": []json.RawMessage{b},
	})
	if err != nil {
		return nil, err
	}
	return parseConfList(list, "")
}

// parseConfList reads a list of plugins; dir is where the specification lets it
// have more of them in files, "" for nowhere. They become part of the list, so
// that its Bytes say all that DEL needs later.
func parseConfList(b []byte, dir string) (*libcni.NetworkConfigList, error) {
	if len(b) > maxConf {
		return nil, fmt.Errorf("more than %d bytes: %w", maxConf, errdefs.ErrInvalidArgument)
	}
	list, err := libcni.NetworkConfFromBytes(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return nil, fmt.Errorf("network name %q: %w: %w", list.Name, err, errdefs.ErrInvalidArgument)
	}
	if dir != "" && !list.LoadOnlyInlinedPlugins {
		more, err := libcni.NetworkPluginConfsFromFiles(dir, list.Name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		if len(more) > 0 {
			list.Plugins = append(list.Plugins, more...)
			if list, err = inline(list); err != nil {
				return nil, err
			}
		}
	}
	return list, validate(list)
}

// inline writes a list anew with all its plugins in it.
func inline(list *libcni.NetworkConfigList) (*libcni.NetworkConfigList, error) {
	raw := map[string]any{}
	if err := json.Unmarshal(list.Bytes, &raw); err != nil {
		return nil, err
	}
	var plugins []json.RawMessage
	for _, p := range list.Plugins {
		plugins = append(plugins, p.Bytes)
	}
	raw["plugins"], raw["loadOnlyInlinedPlugins"] = plugins, true
	b, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(b)
}

func validate(list *libcni.NetworkConfigList) error {
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return fmt.Errorf("network name %q: %w: %w", list.Name, err, errdefs.ErrInvalidArgument)
	}
	if len(list.Plugins) == 0 {
		return fmt.Errorf("no plugin in the list: %w", errdefs.ErrInvalidArgument)
	}
	if list.CNIVersion != "" && !slices.Contains(version.All.SupportedVersions(), list.CNIVersion) {
		return fmt.Errorf("cniVersion %q is none of %v: %w", list.CNIVersion, version.All.SupportedVersions(), errdefs.ErrInvalidArgument)
	}
	return nil
}
