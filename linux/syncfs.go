package linux

import (
	"os"

	"golang.org/x/sys/unix"
)

// Syncfs writes a whole file system to its disk. It reports errors of
// write-back since the file was opened, so the file is opened before the writing.
func Syncfs(f *os.File) error {
	return control(f, func(fd int) error {
		return retry("syncfs", func() error { return unix.Syncfs(fd) })
	})
}

// Exchange swaps two paths in one step.
func Exchange(a, b string) error {
	return retryPath("renameat2 RENAME_EXCHANGE", a, func() error {
		return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	})
}
