package linux

import (
	"os"

	"golang.org/x/sys/unix"
)

// Readable is how many bytes wait in a pipe, asked at either end.
func Readable(f *os.File) (n int, err error) {
	err = control(f, func(fd int) error {
		return retry("ioctl FIONREAD", func() (err error) {
			n, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
			return err
		})
	})
	return n, err
}
