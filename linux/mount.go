package linux

import "golang.org/x/sys/unix"

// Mount is mount(2).
func Mount(source, target, fstype string, flags uintptr, data string) error {
	return retryPath("mount "+fstype+" on", target, func() error { return unix.Mount(source, target, fstype, flags, data) })
}

// Unmount is umount2(2).
func Unmount(target string, flags int) error {
	return retryPath("umount", target, func() error { return unix.Unmount(target, flags) })
}
