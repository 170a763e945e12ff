package linux

import (
	"os"

	"golang.org/x/sys/unix"
)

// Memfd makes an anonymous file with this content, read from its start.
func Memfd(name string, content []byte) (*os.File, error) {
	var fd int
	err := retry("memfd_create", func() (err error) {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(content, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
