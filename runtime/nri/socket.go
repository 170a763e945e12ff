package nri

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// free says that nobody serves the socket. The library removes whatever is
// there, and the plugins of another runtime on the node would come to us.
func free(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for the socket: %w", err)
	case info.Mode()&os.ModeSymlink != 0:
		if info, err = os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil
		} else if err != nil {
			return fmt.Errorf("look for the socket: %w", err)
		}
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is there and no socket: %w", path, errdefs.ErrAlreadyExists)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		conn.Close()
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		return nil // its owner is dead
	}
	return fmt.Errorf("the socket %s is served by another runtime: %w", path, errdefs.ErrAlreadyExists)
}
