package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/overlay"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// View is an image's file system as its containers see it, read-only and in
// no mount table. It lives until Close.
type View struct{ root *os.File }

// OpenView shows the layers (directories, topmost first; there may be none).
func OpenView(layers []string) (*View, error) {
	switch len(layers) {
	case 0:
		return &View{}, nil
	case 1: // an overlay wants two; one is what it looks like
		fd, err := linux.Openat(unix.AT_FDCWD, layers[0], unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, fmt.Errorf("open image's layer: %w", err)
		}
		return &View{os.NewFile(uintptr(fd), layers[0])}, nil
	}
	root, err := overlay.View(layers)
	if err != nil {
		return nil, fmt.Errorf("open view of %d layers: %w", len(layers), err)
	}
	return &View{root}, nil
}

// Close gives the view back.
func (v *View) Close() error {
	if v.root == nil {
		return nil
	}
	return v.root.Close()
}

// Find says nil when there is something at the path, resolved inside the image.
// fs.ErrNotExist when there is not.
func (v *View) Find(path string) error {
	fd, err := v.open(path)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// open only finds (O_PATH): opening a device or a FIFO does things, and a
// whiteout is a device too where one layer is looked at without overlay.
func (v *View) open(path string) (int, error) {
	if v.root == nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	fd, err := linux.OpenInRoot(int(v.root.Fd()), path, unix.O_PATH)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return -1, fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return fd, err
}

// ReadFile reads a regular file of at most limit bytes. The path is resolved
// inside the image, links included. fs.ErrNotExist when there is nothing there, or
// something that is not a file.
func (v *View) ReadFile(path string, limit int64) ([]byte, error) {
	fd, err := v.open(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "fstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "open", Path: path + " (not a regular file)", Err: fs.ErrNotExist}
	}
	if st.Size > limit {
		return nil, fmt.Errorf("%s of the image has %d bytes, more than %d: %w", path, st.Size, limit, errdefs.ErrInvalidArgument)
	}
	f, err := linux.Reopen(fd, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
