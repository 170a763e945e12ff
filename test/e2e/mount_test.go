package e2e

import (
	"os"

	"golang.org/x/sys/unix"
)

// hostMount makes a tmpfs of the host and says who sees what is mounted below it.
func (n *node) hostMount(name string, propagation uintptr) string {
	n.t.Helper()
	dir := n.path(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := unix.Mount("e2e", dir, "tmpfs", 0, "size=4m"); err != nil {
		n.t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", propagation, ""); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func (n *node) privateMount(name string) string { return n.hostMount(name, unix.MS_PRIVATE) }
