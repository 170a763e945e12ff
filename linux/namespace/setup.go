package namespace

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// SetHostname sets the hostname of the thread's UTS namespace. For use in setup.
func SetHostname(name string) error {
	if err := retry(func() error { return unix.Sethostname([]byte(name)) }); err != nil {
		return fmt.Errorf("set hostname %q: %w", name, err)
	}
	return nil
}

// LoopbackUp brings up lo in the thread's network namespace; the kernel then
// adds 127.0.0.1/8 and ::1/128. For use in setup.
func LoopbackUp() error {
	fd := -1
	err := retry(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("bring up lo: socket: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("bring up lo: get flags: %w", err)
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring up lo: set flags: %w", err)
	}
	return nil
}
