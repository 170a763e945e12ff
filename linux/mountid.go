package linux

import "golang.org/x/sys/unix"

// MountID returns the id of the mount that path lies on, as in the first column
// of /proc/self/mountinfo (Linux 5.8).
func MountID(path string) (uint64, error) {
	var st unix.Statx_t
	err := retryPath("statx", path, func() error {
		return unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st)
	})
	return st.Mnt_id, err
}
