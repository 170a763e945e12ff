package logs

import (
	"bytes"
	"time"
)

// Stream is one of the two outputs.
type Stream int

// The streams; a terminal has only Stdout.
const (
	Stdout Stream = iota
	Stderr
)

var streamNames = [...]string{"stdout", "stderr"}

func (s Stream) String() string { return streamNames[s] }

// lineLimit is the longest content of one log line (containerd's default of
// max_container_log_line_size).
const lineLimit = 16 << 10

const (
	timeLayout = "2006-01-02T15:04:05.000000000Z"
	// lineExtra is what a line has beside its content: time, stream, tag, newline.
	lineExtra = len(timeLayout) + len(" stdout F ") + 1
)

// appendPrefix appends "time stream ".
func appendPrefix(dst []byte, nanos int64, s Stream) []byte {
	dst = time.Unix(0, nanos).UTC().AppendFormat(dst, timeLayout)
	dst = append(dst, ' ')
	dst = append(dst, s.String()...)
	return append(dst, ' ')
}

// appendLines formats lines of data behind dst for as long as they fit into its
// capacity and returns how much of data they cover. What follows the last
// newline stays, unless it is longer than a line may be, or last is set: then
// it goes as part (P). Formatting exactly the covered bytes again with last set
// gives the same text; recovery lives on that.
func appendLines(dst, prefix, data []byte, last bool) ([]byte, int) {
	used := 0
	for used < len(data) {
		rest := data[used:]
		n, tag, skip := len(rest), byte('P'), 0
		if i := bytes.IndexByte(rest[:min(len(rest), lineLimit+1)], '\n'); i >= 0 {
			n, tag, skip = i, 'F', 1
		} else if n > lineLimit {
			n = lineLimit
		} else if !last {
			break
		}
		if len(dst)+n+lineExtra > cap(dst) {
			break
		}
		dst = append(dst, prefix...)
		dst = append(dst, tag, ' ')
		dst = append(dst, rest[:n]...)
		dst = append(dst, '\n')
		used += n + skip
	}
	return dst, used
}
