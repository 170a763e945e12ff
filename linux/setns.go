package linux

import "golang.org/x/sys/unix"

// Setns moves the calling thread into a namespace of the kind (CLONE_NEW*).
// Only for a thread that nobody else uses: see namespace.OnThread.
func Setns(fd, kind int) error {
	return retry("setns", func() error { return unix.Setns(fd, kind) })
}
