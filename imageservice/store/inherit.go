package store

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/berth-cri/berth/linux"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// inherit gives directories that a layer implies but does not describe the
// mode, owner, times and attributes that they have in the layers below. In an
// overlay the topmost directory counts: without this a layer with the single
// entry "tmp/x", as Bazel or crane make them, would turn /tmp into root's 0755.
//
// A layer is shared by all images that have it, and these may have different
// layers below. Then the image that came first decides: what is no longer as
// the unpacker made it is left alone.
func (s *Store) inherit(layers []digest.Digest) error {
	for i, l := range layers {
		if i == 0 {
			continue
		}
		s.mu.Lock()
		implied := s.layers[l].Implied
		s.mu.Unlock()
		if len(implied) == 0 {
			continue
		}
		if err := s.inheritInto(l, implied, layers[:i]); err != nil {
			return fmt.Errorf("layer %s takes over directories from below: %w", l, err)
		}
	}
	return nil
}

func (s *Store) inheritInto(l digest.Digest, implied []string, below []digest.Digest) error {
	layer, err := os.Open(s.LayerDir(l))
	if err != nil {
		return err
	}
	defer layer.Close()
	for _, path := range implied {
		to, err := openDir(layer, path)
		if err != nil {
			return err
		}
		err = s.inheritDir(to, path, below)
		to.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func (s *Store) inheritDir(to *os.File, path string, below []digest.Digest) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(to.Fd()), &st); err != nil {
		return err
	}
	if st.Uid != 0 || st.Gid != 0 || st.Mode&0o7777 != 0o755 {
		return nil
	}
	for i := len(below) - 1; i >= 0; i-- {
		from, err := s.openBelow(below[i], path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			return nil // a whiteout, a file or a link: there was no such directory
		}
		if err != nil {
			return err
		}
		defer from.Close()
		return copyDir(from, to)
	}
	return nil
}

func (s *Store) openBelow(l digest.Digest, path string) (*os.File, error) {
	layer, err := os.Open(s.LayerDir(l))
	if err != nil {
		return nil, err
	}
	defer layer.Close()
	return openDir(layer, path)
}

func openDir(root *os.File, path string) (*os.File, error) {
	fd, err := linux.OpenInRoot(int(root.Fd()), path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// copyDir copies what describes a directory, and makes it durable.
func copyDir(from, to *os.File) error {
	src, dst := int(from.Fd()), int(to.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	if err := linux.Fchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := linux.Fchmod(dst, st.Mode&0o7777); err != nil {
		return err
	}
	attrs, err := linux.Fxattrs(src)
	if err != nil {
		return err
	}
	for name, value := range attrs {
		if strings.HasPrefix(name, "trusted.") {
			continue // of overlayfs, about that layer
		}
		if err := linux.Fsetxattr(dst, name, value); err != nil {
			return err
		}
	}
	if err := linux.Futimens(dst, &[2]unix.Timespec{st.Atim, st.Mtim}); err != nil {
		return err
	}
	return to.Sync()
}
