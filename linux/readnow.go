package linux

import (
	"os"

	"golang.org/x/sys/unix"
)

// ReadNow reads from a non-blocking file what is there: EAGAIN when nothing is,
// 0 at the end.
func ReadNow(f *os.File, b []byte) (n int, err error) {
	err = control(f, func(fd int) error {
		return retry("read", func() (err error) {
			n, err = unix.Read(fd, b)
			return err
		})
	})
	return n, err
}
