package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// Find looks through the whole tree for the cgroup of a container whose record
// is lost; ErrNotFound when there is none. (systemd removes its scopes itself.)
func (m *Manager) Find(id string) (*Cgroup, error) {
	if err := checkName(id); err != nil {
		return nil, err
	}
	root := m.trees[m.track].dir("")
	found := ""
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone meanwhile
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		case d.Name() == id:
			found = path
			return filepath.SkipAll
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for the cgroup of %s: %w", id, err)
	}
	if found == "" {
		return nil, fmt.Errorf("cgroup of %s: %w", id, errdefs.ErrNotFound)
	}
	return m.Load(strings.TrimPrefix(found, root)), nil
}
