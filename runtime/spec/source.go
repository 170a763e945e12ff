package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-cri/berth/linux"
	"github.com/moby/sys/mountinfo"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Source is where a mount comes from.
type Source struct {
	Path string // without symbolic links
	// Layers are the directories of an image volume, topmost first. Whoever holds
	// the image fills them in.
	Layers []string
	// What the mount that the path lies on shares with others. Known only where
	// the request asks for propagation.
	MountPoint    string
	Shared, Slave bool
}

// PrepareMounts finds the sources of the mounts, one for each; those of image
// volumes stay empty. A source that is
// missing is made as a directory, which the CRI calls an error but containerd
// and CRI-O have always done, and hostPath volumes without a type rely on.
func PrepareMounts(list []*runtimeapi.Mount) ([]Source, error) {
	var out []Source
	for i, m := range list {
		if IsImageVolume(m) {
			out = append(out, Source{})
			continue
		}
		s, err := prepareMount(m)
		if err != nil {
			return nil, fmt.Errorf("mounts[%d].host_path: %w", i, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func prepareMount(m *runtimeapi.Mount) (Source, error) {
	_, err := os.Stat(m.GetHostPath())
	if os.IsNotExist(err) {
		err = os.MkdirAll(m.GetHostPath(), 0o755)
	}
	if err != nil {
		return Source{}, fmt.Errorf("%w: %w", err, kindOf(err))
	}
	path, err := filepath.EvalSymlinks(m.GetHostPath())
	if err != nil {
		return Source{}, fmt.Errorf("%s: %w: %w", m.GetHostPath(), err, kindOf(err))
	}
	s := Source{Path: path}
	if m.GetPropagation() == runtimeapi.MountPropagation_PROPAGATION_PRIVATE {
		return s, nil
	}
	return s, s.findMount()
}

// findMount looks for the mount that the path lies on by its id: paths alone do
// not tell which of several mounts on one point is on top.
func (s *Source) findMount() error {
	id, err := linux.MountID(s.Path)
	if err != nil {
		return err
	}
	found, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		return uint64(i.ID) != id, uint64(i.ID) == id
	})
	if err != nil || len(found) == 0 {
		return fmt.Errorf("find the mount of %s (id %d): %w", s.Path, id, err)
	}
	s.MountPoint = found[0].Mountpoint
	for _, o := range strings.Fields(found[0].Optional) {
		s.Shared = s.Shared || strings.HasPrefix(o, "shared:")
		s.Slave = s.Slave || strings.HasPrefix(o, "master:")
	}
	return nil
}
