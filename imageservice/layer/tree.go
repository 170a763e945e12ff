package layer

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	maxLinks = 40  // symbolic links in one path, as the kernel has it
	maxDepth = 512 // nested directories; each is an open descriptor while it is walked
	maxOpen  = 256 // directories kept open between entries
)

// tree is the directory that a layer is unpacked into.
//
// Directories are made with mode 0700 and get what belongs to them (mode,
// owner, attributes, times) in finish: until then no set-gid bit and no
// default ACL of a parent rubs off on children, and nothing that is made in a
// directory changes its times afterwards.
type tree struct {
	root *dir
	dirs map[string]*dir  // open directories by their real path: no link in it
	made map[string]*made // every directory below root, and root itself as ""
}

// dir is an open directory.
type dir struct {
	path string // real path relative to root, "" for root
	fd   int
}

// made is what finish gives to a directory.
type made struct {
	meta   *meta // nil: implied by an entry below it
	opaque bool
}

func openTree(path string) (*tree, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &tree{
		root: &dir{fd: fd},
		dirs: map[string]*dir{},
		made: map[string]*made{"": {}},
	}, nil
}

func (t *tree) close() {
	t.forget("")
	linux.Close(t.root.fd)
}

// trim bounds the open descriptors. Called between entries, when nobody holds a *dir.
func (t *tree) trim() {
	if len(t.dirs) > maxOpen {
		t.forget("")
	}
}

// forget closes what is open at and below a path.
func (t *tree) forget(at string) {
	for p, d := range t.dirs {
		if at == "" || p == at || strings.HasPrefix(p, at+"/") {
			linux.Close(d.fd)
			delete(t.dirs, p)
		}
	}
}

// open returns the directory at a clean path, through links of this layer if
// need be, and makes what is missing.
func (t *tree) open(p string) (*dir, error) {
	if d := t.dirs[p]; d != nil {
		return d, nil
	}
	at, rest, links := t.root, p, 0
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			up, err := t.open(parent(at.path))
			if err != nil {
				return nil, err
			}
			at = up
			continue
		}
		next, target, err := t.step(at, name)
		if err != nil {
			return nil, fmt.Errorf("directory %s of the layer: %w", quoted(path.Join(at.path, name)), err)
		}
		if next != nil {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return nil, fmt.Errorf("directory %s of the layer: %w: %w", quoted(p), unix.ELOOP, errdefs.ErrInvalidArgument)
		}
		if strings.HasPrefix(target, "/") {
			at = t.root // of the container that will see this link
		}
		rest = target + "/" + rest
	}
	return at, nil
}

// parent of a real path; that of the root is the root.
func parent(p string) string {
	i := strings.LastIndexByte(p, '/')
	return p[:max(i, 0)]
}

// step goes one component down. It returns the directory, or the target of the
// link that is there instead.
func (t *tree) step(at *dir, name string) (*dir, string, error) {
	p := path.Join(at.path, name)
	if d := t.dirs[p]; d != nil {
		return d, "", nil
	}
	if len(p) >= unix.PathMax || strings.Count(p, "/") >= maxDepth {
		return nil, "", fmt.Errorf("nested too deep: %w", errdefs.ErrInvalidArgument)
	}
	fd, err := linux.Openat(at.fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case err == nil:
		return t.add(p, fd), "", nil
	case errors.Is(err, unix.ENOENT):
		d, err := t.mkdir(at, name, false)
		return d, "", err
	case !errors.Is(err, unix.ENOTDIR):
		return nil, "", err
	}
	target, err := linux.Readlinkat(at.fd, name)
	if err == nil {
		return nil, target, nil
	}
	if !t.isWhiteout(at, name) {
		return nil, "", fmt.Errorf("an earlier entry made it no directory: %w", errdefs.ErrInvalidArgument)
	}
	if err := linux.Unlinkat(at.fd, name); err != nil {
		return nil, "", err
	}
	d, err := t.mkdir(at, name, true)
	return d, "", err
}

// add keeps an open directory.
func (t *tree) add(p string, fd int) *dir {
	d := &dir{path: p, fd: fd}
	t.dirs[p] = d
	return d
}

// mkdir makes a directory that was not there and opens it.
func (t *tree) mkdir(at *dir, name string, opaque bool) (*dir, error) {
	if err := linux.Mkdirat(at.fd, name, 0o700); err != nil {
		return nil, err
	}
	fd, err := linux.Openat(at.fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	p := path.Join(at.path, name)
	t.made[p] = &made{opaque: opaque}
	return t.add(p, fd), nil
}

// isWhiteout reports whether a character device 0:0 is there.
func (t *tree) isWhiteout(at *dir, name string) bool {
	st, err := linux.Lstatat(at.fd, name)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// place makes something under a name that is free in nearly every case; what an
// earlier entry of the archive put there is replaced.
func (t *tree) place(at *dir, name string, make func() error) error {
	err := make()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := t.remove(at, name); err != nil {
		return err
	}
	return make()
}

// remove takes away whatever is under a name.
func (t *tree) remove(at *dir, name string) error {
	err := linux.Unlinkat(at.fd, name)
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	p := path.Join(at.path, name)
	t.forget(p)
	for q := range t.made {
		if q == p || strings.HasPrefix(q, p+"/") {
			delete(t.made, q)
		}
	}
	// RemoveAll opens the parent, which is our descriptor, and goes down from
	// there by descriptor without following links.
	return os.RemoveAll(at.proc(name))
}

// proc is a path to a name in the directory, for calls that want a path.
func (d *dir) proc(name string) string {
	return "/proc/self/fd/" + strconv.Itoa(d.fd) + "/" + name
}

// finish gives every directory what belongs to it and returns those that have
// no entry of their own.
func (t *tree) finish() (implied []string, err error) {
	for _, p := range slices.Sorted(maps.Keys(t.made)) {
		t.trim()
		d, err := t.open(p)
		if err != nil {
			return nil, err
		}
		m := t.made[p]
		if m.meta == nil && p != "" {
			implied = append(implied, p)
		}
		if err := m.apply(d.fd); err != nil {
			return nil, fmt.Errorf("directory %s of the layer: %w", quoted(p), err)
		}
	}
	return implied, nil
}

func (m *made) apply(fd int) error {
	if m.opaque {
		if err := linux.Fsetxattr(fd, "trusted.overlay.opaque", []byte("y")); err != nil {
			return err
		}
	}
	if m.meta == nil {
		return linux.Fchmod(fd, 0o755)
	}
	return m.meta.apply(fd, true)
}
