package operator

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxLine bounds one line of a log file; the monitor breaks the container's lines
// at 16 KiB.
const maxLine = 1 << 20

// logFile reads a log file from some place to its end, again and again.
type logFile struct {
	path    string
	file    *os.File
	in      *bufio.Reader
	begun   []byte          // a line whose end is not written yet
	partial map[string]bool // streams in the middle of a line
	watcher *fsnotify.Watcher
}

// openLog opens at the last lines, or for a negative number at the beginning.
func openLog(path string, tail int) (*logFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	if tail >= 0 {
		if err := seekTail(f, tail); err != nil {
			f.Close()
			return nil, fmt.Errorf("look for the last lines of %s: %w", path, err)
		}
	}
	return &logFile{path: path, file: f, in: bufio.NewReaderSize(f, 64<<10), partial: map[string]bool{}}, nil
}

func (l *logFile) close() {
	l.file.Close()
	if l.watcher != nil {
		l.watcher.Close()
	}
}

// read passes on every whole line that is there, of this file and of the one
// that a rotation has put in its place.
func (l *logFile) read(out func(entry) error) error {
	for {
		if err := l.drain(out); err != nil {
			return err
		}
		f, err := l.rotated()
		if err != nil || f == nil {
			return err
		}
		// What came between the reading and the rotation.
		if err := l.drain(out); err != nil {
			f.Close()
			return err
		}
		l.file.Close()
		l.file, l.begun = f, nil
		l.in.Reset(f)
	}
}

func (l *logFile) drain(out func(entry) error) error {
	for {
		part, err := l.in.ReadSlice('\n')
		l.begun = append(l.begun, part...)
		switch {
		case len(l.begun) > maxLine:
			return fmt.Errorf("%s: a line of more than %d bytes: %w", l.path, maxLine, errNotALog)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("read the log: %w", err)
		}
		e, partial, err := parse(string(l.begun))
		if err != nil {
			return fmt.Errorf("%s: %w", l.path, err)
		}
		l.begun = l.begun[:0]
		e.first = !l.partial[e.stream]
		l.partial[e.stream] = partial
		if err := out(e); err != nil {
			return err
		}
	}
}

// rotated is the new file at the path, or nil when it is the one that is open or
// not there yet.
func (l *logFile) rotated() (*os.File, error) {
	f, err := os.Open(l.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	now, err := f.Stat()
	if err == nil {
		var open os.FileInfo
		if open, err = l.file.Stat(); err == nil && !os.SameFile(open, now) {
			return f, nil
		}
	}
	f.Close()
	return nil, err
}

// recheck is how long the end of a container may go unnoticed.
const recheck = time.Second

// wait returns when something was written, or after a while.
func (l *logFile) wait(ctx context.Context) error {
	if l.watcher == nil {
		w, err := fsnotify.NewWatcher()
		if err != nil {
			return fmt.Errorf("watch the log: %w", err)
		}
		l.watcher = w
		// The directory, since a rotation replaces the file.
		if err := w.Add(filepath.Dir(l.path)); err != nil {
			return fmt.Errorf("watch the log: %w", err)
		}
		return nil // something may have been written before the watch
	}
	t := time.NewTimer(recheck)
	defer t.Stop()
	for {
		select {
		case e := <-l.watcher.Events:
			if filepath.Clean(e.Name) == l.path {
				return nil
			}
		case err := <-l.watcher.Errors:
			return fmt.Errorf("watch the log: %w", err)
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// seekTail goes to where the last n lines begin. Parts of a longer line count as
// lines, as for kubectl.
func seekTail(f *os.File, n int) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	const block = 64 << 10
	buf := make([]byte, block)
	last := true // the newline at the end of the file ends the last line
	for at := end; at > 0; {
		size := min(at, block)
		at -= size
		if _, err := f.ReadAt(buf[:size], at); err != nil {
			return err
		}
		for i := int(size) - 1; i >= 0; {
			if i = bytes.LastIndexByte(buf[:i+1], '\n'); i < 0 {
				break
			}
			if last && at+int64(i) == end-1 {
				last = false
				i--
				continue
			}
			if n--; n <= 0 {
				_, err := f.Seek(at+int64(i)+1, io.SeekStart)
				return err
			}
			i--
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
