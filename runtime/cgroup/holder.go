package cgroup

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/berth-cri/berth/linux"
)

// holder is the process that keeps a scope: a program of some forty bytes that
// waits for one byte on its standard input, then sleeps for ever. If the daemon
// dies before it has sent that byte, the end of the pipe ends the holder too.
type holder struct {
	process *os.Process
	line    *os.File
}

// holderProgram is made once, and closed by nobody.
var holderProgram = sync.OnceValues(func() (*os.File, error) {
	return linux.SealedProgram("berth-hold", bytes.NewReader(linux.TinyProgram(holderCode)))
})

func startHolder() (*holder, error) {
	program, err := holderProgram()
	if err != nil {
		return nil, fmt.Errorf("program that holds a scope: %w", err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	process, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", program.Fd()), []string{"berth-hold"},
		&os.ProcAttr{Dir: "/", Env: []string{}, Files: []*os.File{in}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("start the process that holds a scope: %w", err)
	}
	return &holder{process: process, line: out}, nil
}

func (h *holder) pid() int { return h.process.Pid }

// stay makes it independent of this process, and gives it away.
func (h *holder) stay() *os.Process {
	_, _ = h.line.Write([]byte{1}) // if it is dead, the scope is gone too, and the next container misses it
	h.line.Close()
	return h.process
}

// end is for one that has nothing to hold.
func (h *holder) end() {
	h.line.Close()
	_ = h.process.Kill()
	_, _ = h.process.Wait()
}
