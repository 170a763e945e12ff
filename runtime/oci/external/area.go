package external

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
)

const (
	rootDir    = "rootfs"
	volumesDir = "volumes"
	tmpDir     = "tmp"

	// tmpAge is longer than any call of a runtime takes.
	tmpAge = 10 * time.Minute
)

// MakeArea makes the area, or finds it as an earlier daemon left it.
func MakeArea(dir string) error {
	if err := makeArea(dir); err != nil {
		return fmt.Errorf("make %s for OCI runtimes: %w", dir, err)
	}
	return nil
}

func makeArea(dir string) error {
	for _, sub := range []string{rootDir, volumesDir, tmpDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o711); err != nil {
			return err
		}
	}
	mounted, err := mountinfo.Mounted(dir)
	if err != nil {
		return err
	}
	if !mounted { // as it is after a reboot
		if err := linux.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	if err := linux.Mount("", dir, "", unix.MS_UNBINDABLE, ""); err != nil {
		return err
	}
	return sweep(filepath.Join(dir, tmpDir))
}

// RemoveArea takes the area away, when no container is left that uses it.
func RemoveArea(dir string) error {
	err := linux.Unmount(dir, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // it is no mount, or not there
		return err
	}
	return os.RemoveAll(dir)
}

// sweep removes what calls left whose monitor was killed.
func sweep(dir string) error {
	list, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range list {
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && time.Since(st.ModTime()) > tmpAge {
			err = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
