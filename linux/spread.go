package linux

import (
	"os"

	"golang.org/x/sys/unix"
)

// SpreadDirs asks the file system to put each directory that will be made in
// dir into a part of the disk of its own ("chattr +T"). ext4 looks for a free
// inode near the parent, and for five minutes steps one by one over each that
// was deleted there: unpacking 12800 files where as many had just been removed
// took 9 s, and 0.45 s with this flag (Linux 6.18). Other file systems have no
// such flag and no such need.
func SpreadDirs(dir string) error {
	const topDir = 0x00020000 // FS_TOPDIR_FL of linux/fs.h, not in x/sys
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return control(f, func(fd int) error {
		return retry("ioctl FS_IOC_SETFLAGS", func() error {
			flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
			if err != nil {
				return err
			}
			return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|topDir))
		})
	})
}
