package stats

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// Processes is what the processes of a container hold open. It takes a walk of
// /proc, so only monitoring asks for it.
type Processes struct {
	Count, Files, Sockets uint64
}

// maxFiles bounds what one container can make this cost: sockets beyond it are
// not counted.
const maxFiles = 1 << 16

// ReadProcesses counts over the pids. A process that has ended meanwhile counts
// nothing.
func ReadProcesses(pids []int) Processes {
	var p Processes
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		names, _ := f.Readdirnames(-1)
		f.Close()
		p.Count++
		p.Files += uint64(len(names))
		for _, name := range names {
			if p.Files > maxFiles {
				break
			}
			if to, err := os.Readlink(dir + "/" + name); err == nil && strings.HasPrefix(to, "socket:") {
				p.Sockets++
			}
		}
	}
	return p
}

// OpenFilesLimit is the soft limit of open files of a process, which programs
// run into; ok is false when it has none or has ended.
func OpenFilesLimit(pid int) (n uint64, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/limits")
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		if rest, found := bytes.CutPrefix(line, []byte("Max open files")); found {
			if f := bytes.Fields(rest); len(f) > 0 {
				return number(f[0])
			}
		}
	}
	return 0, false
}
