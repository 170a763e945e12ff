package spec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Device is a device node for the container and what it may do with it.
type Device struct {
	Node   specs.LinuxDevice
	Access string
}

// findDevices looks the devices of the request up. A directory stands for all
// devices in it and below.
func findDevices(list []*runtimeapi.Device) ([]Device, error) {
	var out []Device
	for i, d := range list {
		nodes, err := findDevice(d)
		if err != nil {
			return nil, fmt.Errorf("devices[%d].host_path: %w", i, err)
		}
		access := d.GetPermissions()
		if access == "" {
			access = "rwm"
		}
		for _, n := range nodes {
			out = append(out, Device{Node: n, Access: access})
		}
	}
	return out, nil
}

func findDevice(d *runtimeapi.Device) ([]specs.LinuxDevice, error) {
	inside := d.GetContainerPath()
	if inside == "" {
		inside = d.GetHostPath()
	}
	path, err := filepath.EvalSymlinks(d.GetHostPath())
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", d.GetHostPath(), err, kindOf(err))
	}
	node, err := nodeAt(path, filepath.Clean(inside))
	if err == nil {
		return []specs.LinuxDevice{node}, nil
	}
	if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
		return devicesIn(path, filepath.Clean(inside), nil)
	}
	return nil, fmt.Errorf("%s: %w", path, err)
}

var errNoDevice = fmt.Errorf("not a device: %w", errdefs.ErrInvalidArgument)

func nodeAt(path, inside string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return specs.LinuxDevice{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	kind := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[st.Mode&unix.S_IFMT]
	if kind == "" {
		return specs.LinuxDevice{}, errNoDevice
	}
	mode := os.FileMode(st.Mode &^ unix.S_IFMT)
	return specs.LinuxDevice{
		Path: inside, Type: kind, FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
		Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
	}, nil
}

// devicesIn collects the devices below a directory. Links in it are skipped:
// they name devices that are found anyway, or that nobody asked for. What
// vanishes meanwhile was not there.
func devicesIn(dir, inside string, skip []string) ([]specs.LinuxDevice, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []specs.LinuxDevice
	for _, e := range entries {
		path, in := filepath.Join(dir, e.Name()), filepath.Join(inside, e.Name())
		if slices.Contains(skip, path) {
			continue
		}
		if e.IsDir() {
			below, err := devicesIn(path, in, skip)
			if err != nil && !os.IsNotExist(err) {
				return nil, err
			}
			out = append(out, below...)
			continue
		}
		switch node, err := nodeAt(path, in); {
		case err == nil:
			out = append(out, node)
		case !errors.Is(err, errNoDevice) && !os.IsNotExist(err):
			return nil, err
		}
	}
	return out, nil
}

// notForContainers are below /dev what every container has its own of.
var notForContainers = []string{
	"/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/console", "/dev/ptmx",
	"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty",
}

// hostDevices are all devices of the host but those.
func hostDevices() ([]specs.LinuxDevice, error) {
	list, err := devicesIn("/dev", "/dev", notForContainers)
	if err != nil {
		return nil, fmt.Errorf("list the devices of the host: %w", err)
	}
	return list, nil
}
