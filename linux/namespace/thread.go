package namespace

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// OnThread runs fn on an operating system thread that nobody else uses and that
// ends afterwards, so fn may change whatever belongs to the thread (namespaces,
// ids) without undoing it. New threads are not started from it: Go keeps a clean
// template thread for that once a goroutine is locked.
func OnThread(fn func() error) error {
	done := make(chan error, 1)
	go onThread(fn, done)
	return <-done
}

func onThread(fn func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread cannot end before the process, and it is what
		// /proc/self/ns shows to everybody. Keep it busy so that the scheduler
		// has to take another one.
		inner := make(chan error, 1)
		go onThread(fn, inner)
		err := <-inner
		runtime.UnlockOSThread()
		done <- err
		return
	}
	// Returning while locked ends the thread.
	err := fmt.Errorf("the function ended its goroutine")
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		done <- err
	}()
	err = fn()
}
