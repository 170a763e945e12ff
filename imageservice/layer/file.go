package layer

import (
	"bytes"
	"fmt"
	"io"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	block    = 4096     // of the disk, for the size that is recorded
	holeSize = 64 << 10 // a run of zeros this long becomes a hole
)

var zeros [holeSize]byte

// file writes a regular file; long runs of zeros become holes.
func (u *untar) file(at *dir, name string, m *meta, size int64, r io.Reader) (err error) {
	if u.files += size; size < 0 || u.files > u.limits.Size {
		return fmt.Errorf("the files of the layer have more than %d bytes: %w", u.limits.Size, errdefs.ErrResourceExhausted)
	}
	var fd int
	err = u.tree.place(at, name, func() (err error) {
		fd, err = linux.Openat(at.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if e := linux.Close(fd); err == nil {
			err = e
		}
	}()
	u.inodes++
	if size > 0 {
		if err := u.content(fd, size, r); err != nil {
			return err
		}
	}
	return m.apply(fd, false)
}

func (u *untar) content(fd int, size int64, r io.Reader) error {
	buf := newChunk()
	defer freeChunk(buf)
	end := int64(0) // of what was written
	for offset := int64(0); offset < size; {
		if err := u.read.ctx.Err(); err != nil { // zeros of a sparse file come without reading
			return err
		}
		n, err := io.ReadFull(r, buf[:min(size-offset, chunkSize)])
		if err != nil {
			return u.readError(err)
		}
		for b := buf[:n]; len(b) > 0; {
			run, hole := split(b)
			if !hole {
				if err := linux.WriteAt(fd, b[:run], offset); err != nil {
					return err
				}
				u.size += (int64(run) + block - 1) / block * block
				end = offset + int64(run)
			}
			b, offset = b[run:], offset+int64(run)
		}
	}
	if end < size {
		return linux.Ftruncate(fd, size)
	}
	return nil
}

// split returns how long the data, or the hole, at the beginning of b is, in
// whole pieces of holeSize.
func split(b []byte) (n int, hole bool) {
	isHole := func(p []byte) bool { return bytes.Equal(p, zeros[:len(p)]) && len(p) == holeSize }
	for n < len(b) {
		piece := b[n:min(n+holeSize, len(b))]
		if h := isHole(piece); n == 0 {
			hole = h
		} else if h != hole {
			break
		}
		n += len(piece)
	}
	return n, hole
}
