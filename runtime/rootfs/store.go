package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/namespace"
	"github.com/berth-cri/berth/trash"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Overlay is the root file system of a container as layers.
type Overlay struct {
	Lower    []string // directories, topmost first; never empty
	Upper    string
	Work     string
	Volatile bool // no sync of the upper, which is thrown away anyway
}

// Store has the writable layers of this node. It is safe for concurrent use.
type Store struct {
	dir string
	bin *trash.Bin

	users userCache

	mu     sync.Mutex
	usages map[string]*usage // guarded by mu
}

// Open uses <root>/containers; the bin must be on the same file system.
func Open(root string, bin *trash.Bin) (*Store, error) {
	dir := filepath.Join(root, "containers")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open root file systems: %w", err)
	}
	return &Store{dir: dir, bin: bin, usages: map[string]*usage{}}, nil
}

// checkID keeps an id from a record from naming a directory elsewhere.
func checkID(id string) error {
	if id == "" || id == "." || id == ".." || strings.ContainsAny(id, "/\x00") {
		return fmt.Errorf("container id %q: %w", id, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Prepare makes the writable layer of a container over the image's layers
// (directories, topmost first; there may be none), whose ids are those of the
// container's user namespace (nil: of the host).
func (s *Store) Prepare(id string, layers []string, ids *namespace.Mapping) (_ Overlay, err error) {
	if err := checkID(id); err != nil {
		return Overlay{}, fmt.Errorf("prepare root file system: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("prepare root file system of %s: %w", id, err)
		}
	}()
	dir := filepath.Join(s.dir, id)
	switch err := linux.Mkdir(dir, 0o700); {
	case errors.Is(err, fs.ErrExist):
		return Overlay{}, fmt.Errorf("%w: %w", err, errdefs.ErrAlreadyExists)
	case err != nil:
		return Overlay{}, err
	}
	defer func() {
		if err != nil {
			_ = s.bin.Discard(dir)
		}
	}()
	o := Overlay{Lower: layers, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Volatile: true}
	if len(layers) == 0 {
		// Overlay wants one lower directory; it is mounted read-only by nature.
		o.Lower = []string{filepath.Join(dir, "lower")}
		if err := makeDir(o.Lower[0], unix.Stat_t{Mode: 0o755}); err != nil {
			return Overlay{}, err
		}
	}
	if err := linux.Mkdir(o.Work, 0o700); err != nil {
		return Overlay{}, err
	}
	// The container's "/" is the upper directory itself: without these it
	// would have our mode and owner instead of the image's.
	var top unix.Stat_t
	if err := unix.Stat(o.Lower[0], &top); err != nil {
		return Overlay{}, fmt.Errorf("topmost layer: %w", &fs.PathError{Op: "stat", Path: o.Lower[0], Err: err})
	}
	if top.Mode&unix.S_IFMT != unix.S_IFDIR {
		return Overlay{}, fmt.Errorf("topmost layer %s is not a directory: %w", o.Lower[0], errdefs.ErrFailedPrecondition)
	}
	top.Uid, top.Gid = ids.Owner(top.Uid, top.Gid)
	if err := makeDir(o.Upper, top); err != nil {
		return Overlay{}, err
	}
	return o, nil
}

// Upper is the directory of what a container has written.
func (s *Store) Upper(id string) string { return filepath.Join(s.dir, id, "upper") }

// makeDir makes a directory with the owner and mode of another, whatever the
// umask. The owner goes first: changing it clears set-id bits.
func makeDir(path string, like unix.Stat_t) error {
	if err := linux.Mkdir(path, 0o700); err != nil {
		return err
	}
	if like.Uid != 0 || like.Gid != 0 || os.Geteuid() != 0 {
		if err := os.Lchown(path, int(like.Uid), int(like.Gid)); err != nil {
			return err
		}
	}
	return linux.Fchmodat(unix.AT_FDCWD, path, like.Mode&0o7777)
}

// Remove throws the writable layer away; nil when there is none.
func (s *Store) Remove(id string) error {
	if err := checkID(id); err != nil {
		return fmt.Errorf("remove root file system: %w", err)
	}
	s.mu.Lock()
	delete(s.usages, id)
	s.mu.Unlock()
	if err := s.bin.Discard(filepath.Join(s.dir, id)); err != nil {
		return fmt.Errorf("remove root file system of %s: %w", id, err)
	}
	return nil
}

// List returns the containers that have a writable layer.
func (s *Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list root file systems: %w", err)
	}
	ids := make([]string, 0, len(entries))
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids, nil
}
