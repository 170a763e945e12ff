package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/berth-cri/berth/cni/builtin"
	"github.com/berth-cri/berth/telemetry"
)

// dispatcher is how libcni runs plugins: built-in types in this process, all
// others as programs found in the directories.
type dispatcher struct {
	version.PluginDecoder
	binDirs []string
	log     *slog.Logger
}

// builtinPath marks, between FindInPath and ExecPlugin, a built-in plugin. No
// path of a file starts with it.
const builtinPath = "builtin:"

// FindInPath is the first half of libcni's invoke.Exec.
func (d *dispatcher) FindInPath(plugin string, dirs []string) (string, error) {
	if _, ok := builtin.Lookup(plugin); ok {
		return builtinPath + plugin, nil
	}
	path, err := invoke.FindInPath(plugin, dirs)
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	return path, nil
}

// ExecPlugin is the second half.
func (d *dispatcher) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) (out []byte, err error) {
	ctx, span := telemetry.Begin(ctx, "cni plugin")
	defer func() { span.End(err) }()
	span.Set("cni.plugin", filepath.Base(strings.TrimPrefix(path, builtinPath)))
	span.Set("cni.path", path)
	span.Set("cni.command", verb(environ))
	name, ok := strings.CutPrefix(path, builtinPath)
	if !ok {
		return d.run(ctx, path, stdin, environ)
	}
	out, err = d.callBuiltin(ctx, name, stdin, environ)
	if !builtin.IsUnsupported(err) {
		return out, err
	}
	// The reference plugin can do it, if it is there.
	path, findErr := invoke.FindInPath(name, d.binDirs)
	if findErr != nil {
		return nil, fmt.Errorf("%w, and there is no other: %w", err, findErr)
	}
	return d.run(ctx, path, stdin, environ)
}

// verb is what CNI_COMMAND says; the last one counts, as for a program.
func verb(environ []string) (c string) {
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, "CNI_COMMAND="); ok {
			c = v
		}
	}
	return c
}

func (d *dispatcher) callBuiltin(ctx context.Context, name string, stdin []byte, environ []string) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("built-in CNI plugin %s: panic: %v\n%s", name, p, debug.Stack())
		}
	}()
	if err := ctx.Err(); err != nil {
		return nil, err // a plugin that is a program would have been killed
	}
	env := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(k, "CNI_") {
			env[k] = v
		}
	}
	plugin, _ := builtin.Lookup(name)
	if env["CNI_COMMAND"] == "VERSION" {
		var b strings.Builder
		err := builtin.Versions().Encode(&b)
		return []byte(b.String()), err
	}
	res, err := plugin(ctx, builtin.Request{
		Command:     env["CNI_COMMAND"],
		ContainerID: env["CNI_CONTAINERID"],
		Netns:       env["CNI_NETNS"],
		IfName:      env["CNI_IFNAME"],
		Args:        env["CNI_ARGS"],
		Config:      stdin,
		Delegate: func(ctx context.Context, plugin, command string, config []byte) ([]byte, error) {
			path, err := d.FindInPath(plugin, d.binDirs)
			if err != nil {
				return nil, err
			}
			return d.ExecPlugin(ctx, path, config, append(environ[:len(environ):len(environ)], "CNI_COMMAND="+command))
		},
	})
	if env["CNI_COMMAND"] == builtin.Del && errdefs.IsInvalidArgument(err) {
		// ADD refused the same before it touched anything, so there is nothing
		// to delete, and a pod must not hang on it.
		d.log.Info("CNI DEL with a configuration that ADD refuses", "plugin", name, "error", err)
		return nil, nil
	}
	if err != nil || res == nil {
		return nil, err
	}
	return encode(res, stdin)
}

// encode writes a result in the version that the configuration asks for.
func encode(res builtin.Result, config []byte) ([]byte, error) {
	v, err := (&version.ConfigDecoder{}).Decode(config)
	if err != nil {
		return nil, err
	}
	out, err := res.GetAsVersion(v)
	if err != nil {
		return nil, fmt.Errorf("result in version %q: %w", v, err)
	}
	return json.Marshal(out)
}

// kind gives a plugin's error the kind of its CNI code.
func kind(err error) error {
	var e *types.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case types.ErrTryAgainLater, types.ErrPluginNotAvailable, types.ErrLimitedConnectivity:
		return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	case types.ErrInvalidNetworkConfig, types.ErrIncompatibleCNIVersion, types.ErrUnsupportedField:
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return err
}

// asksPrograms tells whether STATUS of the networks needs a program.
func (m *Manager) asksPrograms(nets []*libcni.NetworkConfigList) bool {
	for _, n := range nets {
		if ok, _ := version.GreaterThanOrEqualTo(n.CNIVersion, "1.1.0"); !ok {
			continue // libcni does not ask
		}
		for _, p := range n.Plugins {
			_, ok := builtin.Lookup(p.Network.Type)
			ipam := p.Network.IPAM.Type
			if !ok || ipam != "" && ipam != "host-local" {
				return true
			}
		}
	}
	return false
}
