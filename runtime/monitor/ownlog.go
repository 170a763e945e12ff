package monitor

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ownLogFile is in the state directory.
const ownLogFile = "monitor.log"

// maxOwnLog is how large monitor.log may become before it is renamed to
// monitor.log.1, over the one before. It lies on a tmpfs, which is memory.
const maxOwnLog = 1 << 20

// ownLog is a process's standard error while that is a file at a path.
type ownLog struct {
	mu    sync.Mutex
	path  string
	limit int64
	err   *os.File // standard error: the descriptor stays, what it leads to is changed
}

// boundLog bounds the log at a path, if it is what standard error leads to; of a
// monitor on a terminal it is not.
func boundLog(path string, limit int64) io.Writer {
	l := &ownLog{path: path, limit: limit, err: os.Stderr}
	if !l.ours() {
		return os.Stderr
	}
	return l
}

// ours reports whether the path still names what is open. The process that holds
// descriptors (the store) writes into the same file, and either may rotate it.
func (l *ownLog) ours() bool {
	open, err1 := l.err.Stat()
	named, err2 := os.Stat(l.path)
	return err1 == nil && err2 == nil && os.SameFile(open, named)
}

// Write never fails because of a rotation that did: then the log grows on.
func (l *ownLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if info, err := l.err.Stat(); err == nil && info.Size()+int64(len(b)) > l.limit {
		if err := l.rotate(); err != nil {
			fmt.Fprintf(l.err, "level=WARN msg=\"rotate the log\" error=%q\n", err)
		}
	}
	return l.err.Write(b)
}

// rotate makes a new file the standard error of the process, so that what the Go
// runtime prints at a crash goes there as well.
func (l *ownLog) rotate() error {
	if l.ours() {
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	// Without O_CLOEXEC: a new build of the monitor takes over by execve.
	return os.NewSyscallError("dup3", unix.Dup3(int(f.Fd()), int(l.err.Fd()), 0))
}
