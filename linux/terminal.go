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

// EndOfFile is the character that, typed at the start of a line, is end of file
// to who reads the terminal (^D unless changed); ok is false when the terminal
// is read as it is typed, and has no such thing.
func EndOfFile(master *os.File) (char byte, ok bool, err error) {
	err = control(master, func(fd int) error {
		return retry("ioctl TCGETS", func() error {
			t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
			if err == nil {
				char, ok = t.Cc[unix.VEOF], t.Lflag&unix.ICANON != 0
			}
			return err
		})
	})
	return char, ok && err == nil, err
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
