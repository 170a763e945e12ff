package linux

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Fxattrs reads all extended attributes of an open file.
func Fxattrs(fd int) (map[string][]byte, error) {
	list, err := xattrBytes("flistxattr", func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for name := range strings.SplitSeq(string(list), "\x00") {
		if name == "" {
			continue
		}
		value, err := xattrBytes("fgetxattr", func(buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all[name] = value
	}
	return all, nil
}

// Lgetxattr reads one extended attribute of a path without following its last
// component; nil when there is none.
func Lgetxattr(path, name string) ([]byte, error) {
	value, err := xattrBytes("lgetxattr", func(buf []byte) (int, error) { return unix.Lgetxattr(path, name, buf) })
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	return value, err
}

// xattrBytes makes a call with a buffer that is large enough for its answer.
func xattrBytes(call string, get func(buf []byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf, n := make([]byte, size), 0
		err := retry(call, func() (err error) {
			n, err = get(buf)
			return err
		})
		if err == nil {
			return buf[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || size > 1<<20 {
			return nil, err
		}
	}
}
