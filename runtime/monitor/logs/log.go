package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// Log is the output of one container.
type Log struct {
	path string // "": everything is read and thrown away

	mu     sync.Mutex // guards all below; held for one read and its write
	carry  *carry     // nil: closed
	file   *os.File   // nil: path is "" or could not be opened
	dev    uint64
	inode  uint64
	failed error  // why the last write did not work
	last   Status // after Close
	grown  bool   // the carry holds more pages than it needs at rest
	taps   []Tap
}

// Status is what became of the output.
type Status struct {
	LostLines uint64 `json:"lostLines,omitempty"` // that could not be written
	LostBytes uint64 `json:"lostBytes,omitempty"`
	Error     string `json:"error,omitempty"` // of the last write; "" when it worked
}

// ErrClosed is returned by everything after Close.
var ErrClosed = fmt.Errorf("container log: %w", os.ErrClosed)

// Create starts the log of a new container. The carry file is made anew, the log
// is appended to.
func Create(carryPath, path string) (*Log, error) {
	file, err := openLog(path)
	if err != nil {
		return nil, err
	}
	l := &Log{path: path}
	if err := l.use(file); err != nil {
		return nil, err
	}
	if l.carry, err = createCarry(carryPath); err != nil {
		if file != nil {
			file.Close()
		}
		return nil, fmt.Errorf("make carry file: %w", err)
	}
	return l, nil
}

// Recover goes on with the log of a container whose last writer died. It always
// returns a Log when the carry file can be mapped or made: output must be
// drained. The error then says what was lost on the way.
func Recover(carryPath, path string) (*Log, error) {
	l := &Log{path: path}
	c, lost := openCarry(carryPath)
	if lost != nil {
		var err error
		if c, err = createCarry(carryPath); err != nil {
			return nil, fmt.Errorf("make carry file: %w", err)
		}
	}
	l.carry = c
	file, err := openLog(path)
	if err == nil {
		err = l.use(file)
	}
	if err != nil {
		lost, l.failed = errors.Join(lost, err), err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l, errors.Join(lost, l.recover())
}

// Ended stands for the log of a container that has ended and whose output is all
// written.
func Ended(s Status) *Log { return &Log{last: s} }

// openLog opens or makes a log with its directory; nil for no path.
func openLog(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make log directory: %w: %w", err, kindOf(err))
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w: %w", err, kindOf(err))
	}
	return f, nil
}

// kindOf says whose fault it is that a log cannot be made: of a host without room,
// or of what stands at the path that the client chose.
func kindOf(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return errdefs.ErrResourceExhausted
	}
	return errdefs.ErrFailedPrecondition
}

// use makes f (nil: none) the file of the log and owns it.
func (l *Log) use(f *os.File) error {
	if f != nil {
		var st syscall.Stat_t
		if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
			f.Close()
			return fmt.Errorf("stat log: %w", err)
		}
		l.dev, l.inode = st.Dev, st.Ino
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file = f
	return nil
}

// Reopen makes the log's file anew after a rotation. CRI ReopenContainerLog: the
// new file exists when it returns, and nothing goes to the old one any more.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carry == nil {
		return ErrClosed
	}
	f, err := openLog(l.path)
	if err != nil {
		return err
	}
	return l.use(f)
}

// Status is what became of the output so far.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status()
}

func (l *Log) status() Status {
	if l.carry == nil {
		return l.last
	}
	s := Status{LostLines: l.carry.head.LostLines, LostBytes: l.carry.head.LostBytes}
	if l.failed != nil {
		s.Error = l.failed.Error()
	}
	return s
}

// Trim gives memory back that a burst needed. It is called now and then.
func (l *Log) Trim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carry != nil && l.grown {
		l.grown = false
		l.carry.trim()
	}
}

// Close lets go of the files. Drains in progress end with ErrClosed.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carry != nil {
		l.last = l.status()
		l.carry.close()
		l.carry = nil
	}
	l.use(nil)
}

// now is the log's one clock. A small step back of the wall clock (NTP) is held
// out, so that times never go back; a large one is a correction to follow.
func (l *Log) now() int64 {
	t := time.Now().UnixNano()
	if last := atomic.LoadInt64(&l.carry.head.LastTime); t < last && last-t < int64(time.Second) {
		return last
	}
	atomic.StoreInt64(&l.carry.head.LastTime, t)
	return t
}
