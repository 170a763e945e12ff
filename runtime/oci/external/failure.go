package external

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci"
)

// maxWords bounds what is read of a runtime's explanation.
const maxWords = 8 << 10

// failure is why a call failed, in the runtime's own words where it has any.
func (j *job) failure(ctx context.Context, action, output string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := &oci.StepError{Step: filepath.Base(j.c.Program) + " " + action, Detail: err.Error()}
	log, _ := readTail(j.file("log"))
	if words := lastError(log); words != "" {
		e.Detail = words
	} else if words := lastLine(output); words != "" {
		e.Detail = words
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		e.Errno = errno
	} else {
		e.Errno = errnoOf(e.Detail)
	}
	return e
}

// lastError finds the last error in a log of JSON objects, one a line.
func lastError(log []byte) string {
	last := ""
	for line := range strings.Lines(string(log)) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Level != "warning" && entry.Level != "info" && entry.Level != "debug" && entry.Msg != "" {
			last = entry.Msg
		}
	}
	return strings.TrimSpace(last)
}

func lastLine(output string) string {
	output = strings.TrimSpace(output)
	return strings.TrimSpace(output[strings.LastIndexByte(output, '\n')+1:])
}

// errnos are those whose kind matters to who asked for a container, by the words
// that a message ends in: runc's are Go's, in lower case, crun's the C library's.
var errnos = map[string]unix.Errno{
	"executable file not found in $path": unix.ENOENT,
	"no such file or directory":          unix.ENOENT,
	"permission denied":                  unix.EACCES,
	"operation not permitted":            unix.EPERM,
	"is a directory":                     unix.EISDIR,
	"not a directory":                    unix.ENOTDIR,
	"exec format error":                  unix.ENOEXEC,
	"operation not supported":            unix.EOPNOTSUPP,
	"invalid argument":                   unix.EINVAL,
	"too many levels of symbolic links":  unix.ELOOP,
	"no space left on device":            unix.ENOSPC,
	"cannot allocate memory":             unix.ENOMEM,
	"resource temporarily unavailable":   unix.EAGAIN,
	"no such process":                    unix.ESRCH,
	"(memory limit too low?)":            unix.ENOMEM,
}

func errnoOf(words string) unix.Errno {
	words = strings.ToLower(words)
	for end, errno := range errnos {
		if strings.HasSuffix(words, end) {
			return errno
		}
	}
	return 0
}

func readTail(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(st.Size(), maxWords))
	n, err := f.ReadAt(b, st.Size()-int64(len(b)))
	return b[:n], err
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - maxWords; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }
