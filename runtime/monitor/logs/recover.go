package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
)

// recover finishes what the dead writer had begun: a read, a write, or nothing.
func (l *Log) recover() error {
	c := l.carry
	for s := range c.areas {
		s := Stream(s)
		st := c.state(s)
		if st.intent > 0 && !zero(c.areas[s][st.end:st.end+st.intent]) {
			st.end += st.intent // the read happened: it takes all or nothing
		}
		st.intent = 0
		c.setState(s, st)
		c.have[s] = max(c.have[s], roundUp(s, st.end))
	}
	err := l.finish()
	for s := range c.areas {
		if e := l.emit(Stream(s), false); e != nil {
			return e
		}
	}
	return err
}

// roundUp is the part of an area, at least n bytes, that ends with a page.
func roundUp(s Stream, n int) int {
	if n <= firstPage[s] {
		return firstPage[s]
	}
	return firstPage[s] + (n-firstPage[s]+page-1)/page*page
}

// finish completes a recorded write.
func (l *Log) finish() error {
	h := l.carry.head
	if h.Active == 0 {
		return nil
	}
	defer atomic.StoreUint64(&h.Active, 0)
	s := Stream(h.Stream)
	if atomic.LoadUint64(&h.State[s]) != h.Word {
		return nil // it was done and counted
	}
	st := parseState(h.Word)
	data := l.carry.areas[s][st.start:h.To]
	prefix := appendPrefix(nil, h.Time, s)
	text, used := appendLines(make([]byte, 0, h.Length), prefix, data, true)
	var err error
	if used != len(data) || uint64(len(text)) != h.Length {
		err = errors.New("recover log: the record of a write does not fit its data; these lines may be there twice or not at all")
	} else {
		err = l.complete(text)
	}
	l.carry.setState(s, state{int(h.To), st.end, 0})
	return err
}

// complete appends the part of the text that did not reach the recorded file.
func (l *Log) complete(text []byte) error {
	h := l.carry.head
	if l.path == "" {
		return nil
	}
	file := l.file
	if file == nil || !sameFile(file, h.Dev, h.Inode) {
		// The log was renamed meanwhile; its rest belongs into the renamed file.
		old, err := findInode(filepath.Dir(l.path), h.Dev, h.Inode)
		if err == nil {
			defer old.Close()
			file = old
		} else if file == nil {
			l.lose(text)
			return nil
		}
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(file.Fd()), &st); err != nil {
		return fmt.Errorf("recover log: %w", err)
	}
	size := st.Size
	if done := size - h.Size; st.Ino == h.Inode && st.Dev == h.Dev && done >= 0 {
		text = text[min(done, int64(len(text))):]
	}
	if n, err := file.Write(text); err != nil {
		l.failed = err
		whole := bytes.LastIndexByte(text[:n], '\n') + 1
		file.Truncate(size + int64(whole))
		l.lose(text[whole:])
	}
	return nil
}

// findInode opens the file of a directory that has this inode.
func findInode(dir string, dev, inode uint64) (*os.File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || info.Sys().(*syscall.Stat_t).Ino != inode {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, e.Name()), os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0)
		if err != nil {
			return nil, err
		}
		if sameFile(f, dev, inode) {
			return f, nil
		}
		f.Close()
	}
	return nil, os.ErrNotExist
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
