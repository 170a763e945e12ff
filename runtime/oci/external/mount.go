package external

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
)

// mountPlan is what is mounted before a runtime is called.
type mountPlan struct {
	UserNamespace string `json:"userNamespace,omitempty"` // path, for what is Mapped
	Root          tree   `json:"root"`
	Volumes       []tree `json:"volumes,omitempty"`
}

// tree is one mount: an overlay of directories, or a file or directory.
type tree struct {
	Lower       []string `json:"lower,omitempty"` // topmost first
	Upper, Work string   `json:",omitempty"`
	Volatile    bool     `json:"volatile,omitempty"`

	Bind      string `json:"bind,omitempty"`
	Recursive bool   `json:"recursive,omitempty"`
	MapBelow  bool   `json:"mapBelow,omitempty"`

	SubPath string `json:"subPath,omitempty"`
	Mapped  bool   `json:"mapped,omitempty"` // show it through the user namespace
	Label   string `json:"label,omitempty"`  // SELinux
}

// mounter works in a mount namespace that is its process's own and still a copy of
// the host's, propagation and all: bidirectional volumes are to reach the host.
// Only the area does not propagate.
type mounter struct {
	area   string
	userns *os.File
	mapped map[string]bool // layers that are shown through the user namespace
}

func (p *mountPlan) mount(area string) error {
	m := &mounter{area: area, mapped: map[string]bool{}}
	if p.UserNamespace != "" {
		// Layers are mounted over themselves, and the host must not see it. It
		// shares no mounts with user namespaces anyway.
		if err := linux.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return err
		}
		var err error
		if m.userns, err = os.Open(p.UserNamespace); err != nil {
			return err
		}
		defer m.userns.Close()
	}
	if err := m.overlay(&p.Root, filepath.Join(area, rootDir)); err != nil {
		return fmt.Errorf("mount the root file system: %w", err)
	}
	if len(p.Volumes) == 0 {
		return nil
	}
	volumes := filepath.Join(area, volumesDir)
	if err := linux.Mount("berth", volumes, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0711"); err != nil {
		return err
	}
	for i := range p.Volumes {
		if err := m.volume(&p.Volumes[i], filepath.Join(volumes, strconv.Itoa(i))); err != nil {
			return fmt.Errorf("mount volume %s: %w", p.Volumes[i].name(), err)
		}
	}
	return nil
}

func (t *tree) name() string {
	if t.Bind != "" {
		return t.Bind
	}
	return strings.Join(append(t.Lower[:1:1], t.SubPath), " ")
}

// overlay names the directories by descriptors: so the options fit into the one
// page that the kernel takes, and no character in a path can end one.
func (m *mounter) overlay(t *tree, target string) error {
	lower, err := m.openAll(t.Lower, t.Mapped)
	defer closeAll(lower)
	if err != nil {
		return err
	}
	options := "lowerdir=" + strings.Join(paths(lower), ":")
	if t.Upper != "" {
		upper, err := m.openAll([]string{t.Upper, t.Work}, false)
		defer closeAll(upper)
		if err != nil {
			return err
		}
		options += ",upperdir=" + paths(upper)[0] + ",workdir=" + paths(upper)[1]
	}
	if t.Volatile {
		options += ",volatile"
	}
	if t.Label != "" {
		options += `,context="` + t.Label + `"`
	}
	flags := uintptr(0)
	if t.Mapped { // devices of an image are nothing that a user namespace has a right to
		flags = unix.MS_NODEV
	}
	if t.Upper == "" && len(lower) == 1 { // an overlay wants two
		return m.bind(&tree{Bind: paths(lower)[0]}, target)
	}
	return linux.Mount("overlay", target, "overlay", flags, options)
}

func (m *mounter) openAll(dirs []string, mapped bool) (files []*os.File, err error) {
	for _, dir := range dirs {
		if mapped {
			if err := m.showMapped(dir); err != nil {
				return files, err
			}
		}
		fd, err := linux.Openat(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return files, err
		}
		files = append(files, os.NewFile(uintptr(fd), dir))
	}
	return files, nil
}

// showMapped mounts a directory over itself: an overlay takes its layers from
// mounts of this namespace only.
func (m *mounter) showMapped(dir string) error {
	if m.mapped[dir] {
		return nil
	}
	err := m.bind(&tree{Bind: dir, Mapped: true}, dir)
	m.mapped[dir] = err == nil
	return err
}

// bind mounts a file or directory on a place of the same kind.
func (m *mounter) bind(t *tree, target string) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if t.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := linux.OpenTree(unix.AT_FDCWD, t.Bind, flags)
	if err != nil {
		return err
	}
	defer linux.Close(fd)
	if t.Mapped && !m.mapped[t.Bind] {
		err := linux.MapTree(fd, int(m.userns.Fd()), t.MapBelow)
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("its file system cannot show it under other ids: %w", unix.EOPNOTSUPP)
		}
		if err != nil {
			return err
		}
	}
	return linux.MoveMount(fd, target)
}

// volume makes the place and mounts there. A path in a volume is resolved within
// it.
func (m *mounter) volume(t *tree, target string) error {
	source := t
	if len(t.Lower) > 0 || t.SubPath != "" {
		whole := target + ".whole"
		if err := linux.Mkdir(whole, 0o700); err != nil {
			return err
		}
		var err error
		if len(t.Lower) > 0 {
			err = m.overlay(t, whole)
		} else {
			err = m.bind(t, whole)
		}
		if err != nil {
			return err
		}
		source = &tree{Bind: whole}
		if t.SubPath != "" {
			f, err := inside(whole, t.SubPath)
			if err != nil {
				return err
			}
			defer f.Close()
			source.Bind = paths([]*os.File{f})[0]
		}
	}
	if err := makePlace(source.Bind, target); err != nil {
		return err
	}
	return m.bind(source, target)
}

func inside(dir, path string) (*os.File, error) {
	root, err := linux.Openat(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer linux.Close(root)
	fd, err := linux.OpenInRoot(root, path, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func makePlace(like, place string) error {
	st, err := os.Stat(like)
	if err != nil {
		return err
	}
	if st.IsDir() {
		return linux.Mkdir(place, 0o700)
	}
	f, err := os.OpenFile(place, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func paths(files []*os.File) []string {
	var list []string
	for _, f := range files {
		list = append(list, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())))
	}
	return list
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
