package cdi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// Directories hold specs; what is in a later one goes before.
type Directories struct{ dirs []string }

// Open takes directories, which need not exist yet. Without any there are no
// devices.
func Open(dirs []string) *Directories { return &Directories{slices.Clone(dirs)} }

// Find returns what to do to a container's spec so that it gets the devices of
// these names (VENDOR/CLASS=DEVICE); nil for no names. ErrFailedPrecondition when
// there is no such device.
//
// The files are read each time: some milliseconds for a container with such a
// device, and no watch on directories that may not exist yet.
func (d *Directories) Find(names []string) (apply func(*specs.Spec) error, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	if len(d.dirs) == 0 {
		return nil, fmt.Errorf("CDI devices %s: no directory is configured: %w", strings.Join(names, ", "), errdefs.ErrFailedPrecondition)
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(d.dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return nil, fmt.Errorf("read CDI specs: %w", err)
	}
	broken := cache.Refresh()
	for _, name := range names {
		if cache.GetDevice(name) == nil {
			return nil, notFound(name, d.dirs, broken)
		}
	}
	return func(s *specs.Spec) error {
		if _, err := cache.InjectDevices(s, names...); err != nil {
			return fmt.Errorf("CDI devices %s: %w: %w", strings.Join(names, ", "), err, errdefs.ErrFailedPrecondition)
		}
		return nil
	}, nil
}

func notFound(name string, dirs []string, broken error) error {
	err := fmt.Errorf("CDI device %s is in no file of %s: %w", name, strings.Join(dirs, ", "), errdefs.ErrFailedPrecondition)
	if broken != nil { // the device may be in one of these
		err = fmt.Errorf("%w; files that could not be read: %s", err, broken)
	}
	return err
}
