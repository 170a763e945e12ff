package linux

import (
	"os"

	"golang.org/x/sys/unix"
)

// InputPipe makes a pipe whose read end blocks, as a program expects of its
// standard input, and whose write end Go's poller waits on: Close ends a write
// that waits for the program to read.
func InputPipe() (r, w *os.File, err error) {
	var p [2]int
	if err := retry("pipe2", func() error { return unix.Pipe2(p[:], unix.O_CLOEXEC) }); err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(p[1], true); err != nil {
		unix.Close(p[0])
		unix.Close(p[1])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe"), nil
}
