package logs

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/berth-cri/berth/fault"
)

// buffers hold formatted lines; a fast container needs one for microseconds.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}

// emit writes the lines that are complete, or all with last, and moves the rest
// to the front when it does not overlap there.
func (l *Log) emit(s Stream, last bool) error {
	c := l.carry
	if st := c.state(s); st.start < st.end {
		now := l.now()
		buf := buffers.Get().(*[]byte)
		defer buffers.Put(buf)
		prefix := appendPrefix((*buf)[:0], now, s)
		lines := (*buf)[len(prefix):len(prefix)]
		for st.start < st.end {
			out, used := appendLines(lines, prefix, c.areas[s][st.start:st.end], last)
			if used == 0 {
				break
			}
			if err := l.put(s, st, st.start+used, now, out); err != nil {
				return err
			}
			st = c.state(s)
		}
	}
	st := c.state(s)
	if n := st.end - st.start; st.start > 0 && n <= st.start {
		copy(c.areas[s], c.areas[s][st.start:st.end])
		if err := fault.Hit("logs.moved"); err != nil {
			return err
		}
		c.setState(s, state{0, n, 0})
	}
	return nil
}

// put brings the text of [st.start,to) into the log. Only the simulated crash of
// a test is an error: what the disk refuses is dropped and counted.
func (l *Log) put(s Stream, st state, to int, now int64, text []byte) error {
	h := l.carry.head
	if l.file == nil {
		if l.path != "" {
			l.lose(text)
		}
		l.carry.setState(s, state{to, st.end, 0})
		return nil
	}
	l.tellLoss(now)
	h.Stream, h.Word, h.To, h.Time = uint64(s), st.word(), uint64(to), now
	h.Dev, h.Inode, h.Size, h.Length = l.dev, l.inode, l.size(), uint64(len(text))
	atomic.StoreUint64(&h.Active, 1)
	if err := fault.Hit("logs.recorded"); err != nil {
		return err
	}
	if err := fault.Hit("logs.half"); err != nil {
		l.file.Write(text[:len(text)/2])
		return err
	}
	l.write(text, h.Size)
	if err := fault.Hit("logs.written"); err != nil {
		return err
	}
	l.carry.setState(s, state{to, st.end, 0})
	if err := fault.Hit("logs.consumed"); err != nil {
		return err
	}
	atomic.StoreUint64(&h.Active, 0)
	return nil
}

// write appends the text to a log of that size, or drops what does not go in.
func (l *Log) write(text []byte, size int64) {
	n, err := l.file.Write(text)
	if l.failed = err; err == nil {
		return
	}
	// A torn line would be read as a whole one: keep whole lines only.
	whole := bytes.LastIndexByte(text[:n], '\n') + 1
	l.file.Truncate(size + int64(whole))
	l.lose(text[whole:])
}

// lose counts text that is dropped.
func (l *Log) lose(text []byte) {
	h := l.carry.head
	lines := uint64(bytes.Count(text, []byte{'\n'}))
	h.LostLines += lines
	h.LostBytes += uint64(len(text))
	h.Untold += lines
}

// tellLoss says in the log that lines are missing here, once it can.
func (l *Log) tellLoss(now int64) {
	h := l.carry.head
	if h.Untold == 0 {
		return
	}
	text := appendPrefix(nil, now, Stderr)
	text = fmt.Appendf(text, "F berth: %d log lines lost here: %v\n", h.Untold, l.failed)
	size := l.size()
	if n, err := l.file.Write(text); err != nil {
		if n > 0 {
			l.file.Truncate(size)
		}
		return
	}
	h.Untold = 0
}

// size is the log's; somebody may have truncated it.
func (l *Log) size() int64 {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(l.file.Fd()), &st); err != nil {
		return 0
	}
	return st.Size
}

// sameFile says whether the file is the one of that record.
func sameFile(f *os.File, dev, inode uint64) bool {
	var st syscall.Stat_t
	return syscall.Fstat(int(f.Fd()), &st) == nil && st.Dev == dev && st.Ino == inode
}
