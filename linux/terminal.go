package linux

import (
	"os"

	"golang.org/x/sys/unix"
)

// SetWindowSize sets the size of a terminal by its master, in characters. Who
// runs in the foreground gets SIGWINCH when that is a change.
func SetWindowSize(master *os.File, columns, rows uint16) error {
	return control(master, func(fd int) error {
		return retry("ioctl TIOCSWINSZ", func() error {
			return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
		})
	})
}

// EndOfFile is the character that is end of file when it is typed: ^D unless
// changed, 0 for none.
func EndOfFile(master *os.File) (char byte, err error) {
	err = control(master, func(fd int) error {
		return retry("ioctl TCGETS", func() error {
			t, err := unix.IoctlGetTermios(fd, unix.TCGETS) // asked at the master, it is the slave's
			if err == nil {
				char = t.Cc[unix.VEOF]
			}
			return err
		})
	})
	return char, err
}

// Nonblocking gives a descriptor of its own in Go's poller, so that Close ends
// what waits on it. The mode is that of the open file, whoever shares it.
func Nonblocking(f *os.File) (*os.File, error) {
	fd := -1
	err := control(f, func(from int) error {
		return retry("fcntl", func() (err error) {
			if fd, err = unix.FcntlInt(uintptr(from), unix.F_DUPFD_CLOEXEC, 3); err == nil {
				err = unix.SetNonblock(fd, true)
			}
			return err
		})
	})
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Block puts the open file, whoever shares it, into blocking mode.
func Block(f *os.File) error {
	return control(f, func(fd int) error {
		return retry("fcntl", func() error { return unix.SetNonblock(fd, false) })
	})
}
