package logs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/fault"
)

// Drain moves what comes out of a pipe or a terminal's master into the log, until end of
// file (nil). The goroutine is parked while there is nothing to read. f must be
// in Go's poller and must have no other reader.
func (l *Log) Drain(s Stream, f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var step error
		err := conn.Read(func(fd uintptr) bool {
			step = l.pull(s, int(fd))
			return step != errWait
		})
		switch {
		case err != nil:
			return fmt.Errorf("wait for %s: %w", s, err)
		case errors.Is(step, io.EOF):
			return l.end(s)
		case step != nil:
			return step
		}
	}
}

// errWait says that the pipe is empty and has writers.
var errWait = errors.New("nothing to read")

// pull moves one batch.
func (l *Log) pull(s Stream, fd int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carry == nil {
		return ErrClosed
	}
	n, err := readable(fd)
	if err != nil {
		return err
	}
	if err := l.read(s, fd, n); err != nil {
		return err
	}
	return l.emit(s, false)
}

// readable says how much can be read at once: io.EOF, errWait or a number.
func readable(fd int) (int, error) {
	for range 2 {
		n, err := unix.IoctlGetInt(fd, unix.TIOCINQ) // FIONREAD of a pipe is the same number
		if err == unix.EIO {
			return 0, io.EOF // a terminal that was hung up
		}
		if err != nil {
			return 0, os.NewSyscallError("ioctl FIONREAD", err)
		}
		if n > 0 {
			return min(n, maxRead), nil
		}
		// Empty is not the end. Data may have come since, so ask in this order.
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, 0); err != nil && err != unix.EINTR {
			return 0, os.NewSyscallError("poll", err)
		}
		if p[0].Revents&unix.POLLIN == 0 {
			if p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
				return 0, io.EOF
			}
			return 0, errWait
		}
	}
	return 1, nil // poll promises something that FIONREAD does not count
}

// read reads n bytes behind what is there, in the order that recovery needs:
// zero the range, say the intent, read, count.
func (l *Log) read(s Stream, fd, n int) error {
	c := l.carry
	st := c.state(s)
	area := c.areas[s]
	n = min(n, len(area)-st.end)
	if n = min(n, c.grow(s, st.end+n)-st.end); n <= 0 {
		return l.emit(s, true) // no memory for a line this long: it goes in parts
	}
	l.grown = l.grown || c.have[s] > firstPage[s]
	room := area[st.end : st.end+n]
	clear(room)
	c.setState(s, state{st.start, st.end, n})
	if err := fault.Hit("logs.intend"); err != nil {
		return err
	}
	got, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, room) })
	if err != nil || got == 0 {
		c.setState(s, st)
		switch err {
		case nil, unix.EIO:
			return io.EOF
		case unix.EAGAIN:
			return errWait
		}
		return os.NewSyscallError("read", err)
	}
	if err := fault.Hit("logs.read"); err != nil {
		return err
	}
	c.setState(s, state{st.start, st.end + got, 0})
	l.tap(s, room[:got])
	return fault.Hit("logs.counted")
}

// end writes what stayed without a newline.
func (l *Log) end(s Stream) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carry == nil {
		return ErrClosed
	}
	return l.emit(s, true)
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
