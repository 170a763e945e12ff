package main

import (
	"syscall"
	"unsafe"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// maxPassed is how many descriptors go with one message (SCM_MAX_FD is 253).
const maxPassed = 64

// control is a message of unix(7) with descriptors.
type control struct { // struct cmsghdr
	length      uint64
	level, kind int32
	fds         [maxPassed]int32
}

const controlHeader = 16

// send sends descriptors with one byte.
func send(socket uintptr, content byte, fds []int) error {
	m := &control{length: uint64(controlHeader + 4*len(fds)), level: syscall.SOL_SOCKET, kind: syscall.SCM_RIGHTS}
	for i, n := range fds {
		m.fds[i] = int32(n)
	}
	return just(syscall.SYS_SENDMSG, socket, ptr(header(m, &content, controlHeader+(4*len(fds)+7)&^7)), syscall.MSG_NOSIGNAL)
}

// receive returns the descriptors of one message, none at the end.
func receive(socket uintptr, most int) ([]int, error) {
	m := &control{}
	content := new(byte)
	h := header(m, content, int(unsafe.Sizeof(*m)))
	n, err := call(syscall.SYS_RECVMSG, socket, ptr(h), syscall.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		return nil, err
	}
	count := (int(m.length) - controlHeader) / 4
	if h.Controllen < controlHeader || h.Flags&syscall.MSG_CTRUNC != 0 || m.kind != syscall.SCM_RIGHTS || count < 1 || count > most {
		return nil, explained{syscall.EPROTO, "a message is damaged"}
	}
	fds := make([]int, count)
	for i := range fds {
		fds[i] = int(m.fds[i])
	}
	return fds, nil
}

func header(m *control, content *byte, size int) *syscall.Msghdr {
	h := &syscall.Msghdr{Iov: &syscall.Iovec{Base: content, Len: 1}, Iovlen: 1, Controllen: uint64(size)}
	h.Control = (*byte)(pointer(m))
	pointer(content)
	pointer(h.Iov)
	return h
}

// sendAll hands trees over.
func sendAll(trees []int) error {
	for len(trees) > 0 {
		n := min(len(trees), maxPassed)
		if err := send(plan.TreesFd, 0, trees[:n]); err != nil {
			return err
		}
		trees = trees[n:]
	}
	return nil
}
