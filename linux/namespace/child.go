package namespace

import (
	"fmt"
	"os"
	"syscall"
)

// WithChild starts a process, calls use with its pid, kills and reaps it. Being
// traced, it stops before the first instruction of its program, which is ours: so
// no program of the host is needed, and main does not run a second time.
func WithChild(attr *syscall.SysProcAttr, use func(pid int) error) error {
	// A tracer is a thread.
	return OnThread(func() error {
		attr.Ptrace = true
		p, err := os.StartProcess("/proc/self/exe", []string{"berth-namespaces"}, &os.ProcAttr{Sys: attr})
		if err != nil {
			return err
		}
		errUse := use(p.Pid)
		if err := p.Kill(); err != nil {
			return fmt.Errorf("kill: %w", err)
		}
		if _, err := p.Wait(); err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		return errUse
	})
}
