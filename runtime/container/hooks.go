package container

import (
	"context"
	"errors"
	"os"

	"github.com/berth-cri/berth/runtime/oci/hooks"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// owesPoststop is there from before a start until the container's poststop hooks
// have run: so they do, once at least, whoever is killed meanwhile.
const owesPoststop = "poststop"

// owePoststop is for the embedded runtime; others run the hooks at "delete".
func (c *Container) owePoststop() error {
	if c.rec.Launch.Hooked == nil {
		return nil
	}
	return os.WriteFile(c.file(owesPoststop), nil, 0o600)
}

// poststop runs the hooks of a container that has ended, unless they have. Their
// failures are told, and change nothing (runtime-spec, "Lifecycle").
func (s *Service) poststop(ctx context.Context, c *Container) {
	if c.rec.Launch.Hooked == nil {
		return
	}
	c.stopping.Lock()
	defer c.stopping.Unlock()
	if _, err := os.Stat(c.file(owesPoststop)); errors.Is(err, os.ErrNotExist) {
		return
	}
	set, err := hooks.Load(c.rec.Launch.Hooked)
	var state []byte
	if err == nil {
		state, err = set.State(specs.StateStopped, 0)
	}
	if err == nil {
		for _, h := range set.Poststop { // each, whatever the others do
			err = errors.Join(err, hooks.Run(ctx, "poststop", []specs.Hook{h}, state))
		}
	}
	if err = errors.Join(err, os.Remove(c.file(owesPoststop))); err != nil {
		s.Log.Warn("hooks after the end of a container", "container", c.rec.ID, "error", err)
	}
}
