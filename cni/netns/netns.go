package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux/namespace"
)

// NS is an open network namespace. It stays alive until Close, so close early:
// a held namespace keeps its interfaces.
type NS struct {
	path string
	file *os.File
}

// Open opens a pinned namespace (or /proc/PID/ns/net). ErrNotFound when the path
// is empty, missing, or a file that is no namespace any more.
func Open(path string) (*NS, error) {
	if path == "" {
		return nil, fmt.Errorf("open network namespace: no path: %w", errdefs.ErrNotFound)
	}
	is, err := namespace.Is(path)
	if err != nil {
		return nil, err
	}
	if !is {
		return nil, fmt.Errorf("open network namespace %s: %w", path, errdefs.ErrNotFound)
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open network namespace %s: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return &NS{path: path, file: f}, nil
}

// Path is what Open was given.
func (n *NS) Path() string { return n.path }

// Fd is the descriptor, for IFLA_NET_NS_FD. Valid until Close.
func (n *NS) Fd() int { return int(n.file.Fd()) }

// Close lets go of the namespace.
func (n *NS) Close() error { return n.file.Close() }

// Do runs fn on a thread inside the namespace. Sockets made there stay bound to
// it; goroutines started by fn run elsewhere.
func (n *NS) Do(fn func() error) error {
	done := make(chan error, 1)
	go n.do(fn, done)
	err := <-done
	runtime.KeepAlive(n)
	return err
}

func (n *NS) do(fn func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// /proc/self is the main thread: keep it busy and at home, so that
		// the scheduler has to take another one.
		inner := make(chan error, 1)
		go n.do(fn, inner)
		err := <-inner
		runtime.UnlockOSThread()
		done <- err
		return
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		done <- fmt.Errorf("enter network namespace %s: %w", n.path, err)
		return
	}
	defer home.Close()
	if err := setns(n.file); err != nil {
		runtime.UnlockOSThread()
		done <- fmt.Errorf("enter network namespace %s: %w", n.path, err)
		return
	}
	err = fmt.Errorf("in network namespace %s: the function ended its goroutine", n.path)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("in network namespace %s: panic: %v\n%s", n.path, p, debug.Stack())
		}
		// A thread that cannot go back stays locked and so ends with us.
		if setns(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	err = fn()
}

// Handle opens a route netlink socket inside the namespace. The caller closes it.
func (n *NS) Handle() (*netlink.Handle, error) {
	var h *netlink.Handle
	err := n.Do(func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open netlink in %s: %w", n.path, err)
	}
	return h, nil
}

// Do opens path, runs fn inside and closes it.
func Do(path string, fn func() error) error {
	n, err := Open(path)
	if err != nil {
		return err
	}
	defer n.Close()
	return n.Do(fn)
}

func setns(f *os.File) error {
	for {
		err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return os.NewSyscallError("setns", err)
		}
	}
}
