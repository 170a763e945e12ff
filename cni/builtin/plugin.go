package builtin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"
)

// The commands of the CNI specification that plugins are asked for.
const (
	Add    = "ADD"
	Del    = "DEL"
	Check  = "CHECK"
	GC     = "GC"
	Status = "STATUS"
)

// Request is one call of a plugin; the fields are the CNI_* variables and the
// standard input of the specification.
type Request struct {
	Command     string
	ContainerID string
	Netns       string
	IfName      string
	Args        string
	Config      []byte

	// Delegate runs a plugin that is not built in, for an address management
	// other than host-local, with the given command and this request's
	// variables. It returns the plugin's standard output.
	Delegate func(ctx context.Context, plugin, command string, config []byte) ([]byte, error)
}

// Result is what ADD returns; nil from every other command.
type Result = *current.Result

// Plugin is one built-in plugin.
type Plugin func(ctx context.Context, r Request) (Result, error)

var plugins = map[string]Plugin{
	"bridge":     bridge,
	"ptp":        ptp,
	"host-local": hostLocal,
	"portmap":    portmap,
	"loopback":   loopback,
	"bandwidth":  bandwidth,
}

// Lookup finds a plugin by its CNI type.
func Lookup(name string) (Plugin, bool) {
	p, ok := plugins[name]
	return p, ok
}

// Versions are the versions of the specification the plugins speak.
func Versions() version.PluginInfo { return version.All }

// Unsupported marks a valid configuration that asks for what only the reference
// plugin does. It depends on nothing but the configuration, so all commands for
// one attachment agree on who serves them.
type Unsupported struct{ Plugin, What string }

func (u *Unsupported) Error() string {
	return fmt.Sprintf("the built-in %s plugin does not support %s", u.Plugin, u.What)
}

// Unwrap gives the kind.
func (u *Unsupported) Unwrap() error { return errdefs.ErrNotImplemented }

// IsUnsupported tells whether the reference plugin should be tried.
func IsUnsupported(err error) bool {
	var u *Unsupported
	return errors.As(err, &u)
}

func unknownCommand(plugin, command string) error {
	return fmt.Errorf("%s: command %q: %w", plugin, command, errdefs.ErrNotImplemented)
}

func parse(plugin string, config []byte, into any) error {
	if err := json.Unmarshal(config, into); err != nil {
		return fmt.Errorf("%s: configuration: %w: %w", plugin, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// previous is the result of the plugins before this one, nil when there is none.
func previous(plugin string, conf *types.PluginConf) (Result, error) {
	if conf.RawPrevResult == nil {
		return nil, nil
	}
	if err := version.ParsePrevResult(conf); err != nil {
		return nil, fmt.Errorf("%s: prevResult: %w: %w", plugin, err, errdefs.ErrInvalidArgument)
	}
	res, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return nil, fmt.Errorf("%s: prevResult: %w: %w", plugin, err, errdefs.ErrInvalidArgument)
	}
	return res, nil
}

// ipam runs the address management plugin of a configuration.
func ipam(ctx context.Context, r Request, kind, command string) (Result, error) {
	if kind == "host-local" {
		r.Command = command
		return hostLocal(ctx, r)
	}
	if r.Delegate == nil {
		return nil, fmt.Errorf("ipam plugin %q: %w", kind, errdefs.ErrNotImplemented)
	}
	out, err := r.Delegate(ctx, kind, command, r.Config)
	if err != nil {
		return nil, fmt.Errorf("ipam plugin %q: %w", kind, err)
	}
	if command != Add {
		return nil, nil
	}
	any, err := create.CreateFromBytes(out)
	if err != nil {
		return nil, fmt.Errorf("ipam plugin %q: result: %w", kind, err)
	}
	res, err := current.NewResultFromResult(any)
	if err != nil {
		return nil, fmt.Errorf("ipam plugin %q: result: %w", kind, err)
	}
	return res, nil
}
