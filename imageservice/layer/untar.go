package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// untar makes the entries of one archive.
type untar struct {
	tree   *tree
	limits Limits
	read   *pipe

	files   int64 // bytes of all files, holes included
	size    int64 // what Result.Size says
	inodes  int
	implied []string
}

func (u *untar) run() error {
	r := tar.NewReader(u.read)
	for n := 1; ; n++ {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return u.readError(err)
		}
		if n > u.limits.Entries {
			return fmt.Errorf("more than %d entries: %w", u.limits.Entries, errdefs.ErrResourceExhausted)
		}
		u.tree.trim()
		if err := u.entry(h, r); err != nil {
			return fmt.Errorf("entry %s: %w", quoted(h.Name), kind(err))
		}
	}
	var err error
	if u.implied, err = u.tree.finish(); err != nil {
		return kind(err)
	}
	u.inodes += len(u.tree.made)
	u.size += int64(len(u.tree.made)) * block
	return u.drain()
}

// drain reads what stands behind the end of the archive: padding, which the
// digests cover.
func (u *untar) drain() error {
	for {
		chunk, err := u.read.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		freeChunk(chunk)
	}
}

func (u *untar) readError(err error) error {
	if u.read.failed != nil {
		return u.read.failed // the archive is not to blame
	}
	return fmt.Errorf("read tar: %w: %w", err, errdefs.ErrDataLoss)
}

// kind names the errors of the file system that are not a matter of this host.
func kind(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %w", err, errdefs.ErrResourceExhausted)
	case errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.ELOOP),
		errors.Is(err, unix.ERANGE), errors.Is(err, unix.E2BIG): // name or value of an attribute
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return err
}

// quoted shows a name of the archive, which may be a megabyte of anything.
func quoted(name string) string {
	const enough = 200
	if len(name) > enough {
		return fmt.Sprintf("%q…", name[:enough])
	}
	return strconv.Quote(name)
}

func (u *untar) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	p, err := u.clean(h.Name)
	if err != nil {
		return err
	}
	dirPath, name := path.Split(p)
	dirPath = strings.TrimSuffix(dirPath, "/")
	switch {
	case name == whiteoutOpaque:
		return u.opaque(dirPath)
	case strings.HasPrefix(p, whiteoutMeta), strings.Contains(p, "/"+whiteoutMeta):
		return nil
	case strings.HasPrefix(name, whiteout):
		return u.whiteout(dirPath, name[len(whiteout):])
	}
	m, err := newMeta(h, u.limits.Xattrs)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return u.directory(dirPath, name, m)
	}
	if name == "" {
		return fmt.Errorf("the root of a layer is a directory: %w", errdefs.ErrInvalidArgument)
	}
	at, err := u.tree.open(dirPath)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return u.file(at, name, m, h.Size, r)
	case tar.TypeLink:
		return u.link(at, name, h.Linkname)
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return fmt.Errorf("symbolic link to nothing: %w", errdefs.ErrInvalidArgument)
		}
		err = u.tree.place(at, name, func() error { return linux.Symlinkat(h.Linkname, at.fd, name) })
	case tar.TypeFifo:
		err = u.node(at, name, unix.S_IFIFO, h)
	case tar.TypeChar:
		err = u.node(at, name, unix.S_IFCHR, h)
	case tar.TypeBlock:
		err = u.node(at, name, unix.S_IFBLK, h)
	default:
		return fmt.Errorf("entry of type %q: %w", h.Typeflag, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return err
	}
	u.inodes++
	return m.applyAt(at, name, h.Typeflag == tar.TypeSymlink)
}

// clean makes a name relative to the root of the layer. An absolute one is
// taken from there, as everybody does; one that climbs out is refused.
func (u *untar) clean(name string) (string, error) {
	if len(name) > u.limits.Path {
		return "", fmt.Errorf("path of more than %d bytes: %w", u.limits.Path, errdefs.ErrInvalidArgument)
	}
	p := path.Clean(strings.TrimLeft(name, "/"))
	switch {
	case p == ".":
		return "", nil
	case p == "..", strings.HasPrefix(p, "../"):
		return "", fmt.Errorf("path leads out of the layer: %w", errdefs.ErrInvalidArgument)
	case strings.IndexByte(p, 0) >= 0:
		return "", fmt.Errorf("path with a zero byte: %w", errdefs.ErrInvalidArgument)
	}
	return p, nil
}

// directory makes a directory, or gives one that is there its own entry.
func (u *untar) directory(dirPath, name string, m *meta) error {
	if name == "" {
		u.tree.made[""].meta = m
		return nil
	}
	at, err := u.tree.open(dirPath)
	if err != nil {
		return err
	}
	p := path.Join(at.path, name)
	if known := u.tree.made[p]; known != nil {
		known.meta = m
		return nil
	}
	_, err = u.tree.mkdir(at, name, false)
	if errors.Is(err, unix.EEXIST) {
		// A whiteout hides what lower layers have; the directory in its place
		// must go on hiding it.
		opaque := u.tree.isWhiteout(at, name)
		if err = u.tree.remove(at, name); err == nil {
			_, err = u.tree.mkdir(at, name, opaque)
		}
	}
	if err != nil {
		return err
	}
	u.tree.made[p].meta = m
	return nil
}

// link makes a hard link to an earlier entry, whose path is walked like any other.
func (u *untar) link(at *dir, name, target string) error {
	p, err := u.clean(target)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", quoted(target), err)
	}
	fromPath, from := path.Split(p)
	fromDir, err := u.tree.open(strings.TrimSuffix(fromPath, "/"))
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", quoted(target), err)
	}
	// Making room for the link would take away what it is to link to.
	here, there := path.Join(at.path, name), path.Join(fromDir.path, from)
	if from == "" || there == here || strings.HasPrefix(there, here+"/") {
		return fmt.Errorf("hard link to %s: its own place: %w", quoted(target), errdefs.ErrInvalidArgument)
	}
	err = u.tree.place(at, name, func() error { return linux.Linkat(fromDir.fd, from, at.fd, name) })
	if err != nil {
		// No such file, a directory: the archive is wrong, not the host.
		return fmt.Errorf("hard link to %s: %w: %w", quoted(target), err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// node makes a device or a FIFO.
func (u *untar) node(at *dir, name string, format uint32, h *tar.Header) error {
	if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
		return fmt.Errorf("device %d:%d does not exist on Linux: %w", h.Devmajor, h.Devminor, errdefs.ErrInvalidArgument)
	}
	dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	return u.tree.place(at, name, func() error { return linux.Mknodat(at.fd, name, format, dev) })
}
