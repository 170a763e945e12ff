package main

import (
	"syscall"
	"unsafe"
)

// call makes a system call, again when a signal interrupts it. It is raw: Go's
// own wrappers tell the scheduler, and for ids they change every thread, which
// neither the namespaces nor a seccomp filter would agree with.
func call(number uintptr, a ...uintptr) (int, error) {
	var full [6]uintptr
	copy(full[:], a)
	for {
		n, _, errno := syscall.RawSyscall6(number, full[0], full[1], full[2], full[3], full[4], full[5])
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return -1, errno
		}
	}
}

// pinned holds what the kernel was given the address of. Being reachable from
// here, it is on the heap, where it neither moves, as the stack does when it
// grows, nor is freed.
var pinned []unsafe.Pointer

func ptr[T any](p *T) uintptr { return uintptr(pointer(p)) }

func pointer[T any](p *T) unsafe.Pointer {
	pinned = append(pinned, unsafe.Pointer(p))
	return unsafe.Pointer(p)
}

// str is the address of a C string.
func str(s string) uintptr { return ptr(cstring(s)) }

func cstring(s string) *byte {
	b := make([]byte, len(s)+1)
	copy(b, s)
	return &b[0]
}

func fd(n int) uintptr { return uintptr(n) }

func closeFd(n int) { call(syscall.SYS_CLOSE, fd(n)) }

const (
	cwdFd  = ^uintptr(99) // AT_FDCWD
	allFds = uintptr(^uint32(0))
)

func openat(dir uintptr, path string, flags int, mode uint32) (int, error) {
	return call(syscall.SYS_OPENAT, dir, str(path), uintptr(flags|syscall.O_CLOEXEC), uintptr(mode))
}

func fstat(n int) (st syscall.Stat_t, err error) {
	p := new(syscall.Stat_t)
	_, err = call(syscall.SYS_FSTAT, fd(n), ptr(p))
	return *p, err
}

// onFilesystem says whether a descriptor is on a file system of the magic number.
func onFilesystem(n int, magic int64) bool {
	p := new(syscall.Statfs_t)
	_, err := call(syscall.SYS_FSTATFS, fd(n), ptr(p))
	return err == nil && int64(p.Type) == magic
}

func readAll(n int) ([]byte, error) {
	var all []byte
	b := make([]byte, 4096)
	for {
		got, err := call(syscall.SYS_READ, fd(n), ptr(&b[0]), uintptr(len(b)))
		if err != nil || got == 0 {
			return all, err
		}
		all = append(all, b[:got]...)
	}
}

func writeAll(n int, b []byte) error {
	for len(b) > 0 {
		put, err := call(syscall.SYS_WRITE, fd(n), ptr(&b[0]), uintptr(len(b)))
		if err != nil {
			return err
		}
		b = b[put:]
	}
	return nil
}
