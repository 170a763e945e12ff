package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// meta is what an entry says about its inode.
type meta struct {
	uid, gid int
	mode     uint32 // the twelve bits of chmod
	times    [2]unix.Timespec
	xattrs   []xattr
}

type xattr struct{ name, value string }

const xattrRecord = "SCHILY.xattr." // star's name for it in PAX, which everybody took over

func newMeta(h *tar.Header, limit int) (*meta, error) {
	m := &meta{uid: h.Uid, gid: h.Gid, mode: uint32(h.Mode) & 0o7777}
	// 2^32-1 means "leave as it is" to chown.
	if h.Uid < 0 || h.Uid >= math.MaxUint32 || h.Gid < 0 || h.Gid >= math.MaxUint32 {
		return nil, fmt.Errorf("owner %d:%d does not exist on Linux: %w", h.Uid, h.Gid, errdefs.ErrInvalidArgument)
	}
	atime := h.AccessTime
	if atime.IsZero() {
		atime = h.ModTime
	}
	m.times = [2]unix.Timespec{timespec(atime), timespec(h.ModTime)}

	total := 0
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if !ok || !keepXattr(name) {
			continue
		}
		if total += len(name) + len(value); total > limit {
			return nil, fmt.Errorf("more than %d bytes of extended attributes: %w", limit, errdefs.ErrInvalidArgument)
		}
		m.xattrs = append(m.xattrs, xattr{name, value})
	}
	return m, nil
}

// keepXattr reports whether an attribute is the image's to set. trusted.* holds
// overlayfs's own: they would forge whiteouts, redirections into other layers
// and metacopies (containerd drops them too). Of security.* only file
// capabilities belong to a file; labels and signatures (SELinux, SMACK, IMA,
// EVM) belong to the host that the image was built on.
func keepXattr(name string) bool {
	switch {
	case strings.HasPrefix(name, "trusted."), strings.HasPrefix(name, "user.overlay."):
		return false
	case strings.HasPrefix(name, "security."):
		return name == "security.capability"
	}
	return true
}

func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// apply gives an open file or directory its owner, mode, attributes and times,
// in this order: chown takes away set-uid bits and file capabilities, and all
// of them but the last change the inode's times. A new inode is root's already.
func (m *meta) apply(fd int, isDir bool) error {
	if m.uid != 0 || m.gid != 0 || isDir {
		if err := linux.Fchown(fd, m.uid, m.gid); err != nil {
			return err
		}
	}
	if err := linux.Fchmod(fd, m.mode); err != nil {
		return err
	}
	for _, x := range m.xattrs {
		if err := x.kept(linux.Fsetxattr(fd, x.name, []byte(x.value))); err != nil {
			return fmt.Errorf("extended attribute %s: %w", quoted(x.name), err)
		}
	}
	return linux.Futimens(fd, &m.times)
}

// applyAt does the same to what is no file and no directory: a link or a node,
// which this unpack has made itself a moment ago.
func (m *meta) applyAt(at *dir, name string, isLink bool) error {
	if m.uid != 0 || m.gid != 0 {
		if err := linux.Lchownat(at.fd, name, m.uid, m.gid); err != nil {
			return err
		}
	}
	if !isLink { // a link has no mode
		if err := linux.Fchmodat(at.fd, name, m.mode); err != nil {
			return err
		}
	}
	for _, x := range m.xattrs {
		if err := x.kept(linux.Lsetxattr(at.proc(name), x.name, []byte(x.value))); err != nil {
			return fmt.Errorf("extended attribute %s: %w", quoted(x.name), err)
		}
	}
	return linux.Lutimesat(at.fd, name, &m.times)
}

// kept forgives what cannot be helped, as containerd does: a file system that
// has no such attribute (user.* on tmpfs before Linux 6.6), and user.* on
// anything but files and directories, which no file system has.
func (x xattr) kept(err error) error {
	user := strings.HasPrefix(x.name, "user.")
	switch {
	case errors.Is(err, unix.EPERM) && user:
		return nil
	case errors.Is(err, unix.ENOTSUP):
		if !user {
			slog.Warn("the file system of the images cannot hold an attribute", "attribute", x.name)
		}
		return nil
	}
	return err
}
