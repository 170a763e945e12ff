package linux

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// ProcStat is what Berth reads of /proc/PID/stat.
type ProcStat struct {
	State     byte   // R, S, D, Z, …
	StartTime uint64 // clock ticks since boot: with the pid it names a process for ever
	ExitCode  int    // a wait status; true for a zombie only, 0 to readers without ptrace rights
}

// ReadProcStat reads the state of a process; os.ErrNotExist when there is none.
func ReadProcStat(pid int) (ProcStat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ProcStat{}, err
	}
	return parseProcStat(b)
}

// parseProcStat reads proc_pid_stat(5). The name in parentheses may itself hold
// spaces and parentheses (the process chooses it), so fields count from the last one.
func parseProcStat(b []byte) (ProcStat, error) {
	end := bytes.LastIndexByte(b, ')')
	if end < 0 || end+2 > len(b) {
		return ProcStat{}, fmt.Errorf("malformed stat %q", clip(b))
	}
	f := bytes.Fields(b[end+1:])
	const state, start, exit = 0, 19, 49 // fields 3, 22 and 52 of the man page
	if len(f) <= exit {
		return ProcStat{}, fmt.Errorf("short stat %q", clip(b))
	}
	st := ProcStat{State: f[state][0]}
	var err error
	if st.StartTime, err = strconv.ParseUint(string(f[start]), 10, 64); err != nil {
		return ProcStat{}, fmt.Errorf("start time in stat: %w", err)
	}
	if st.ExitCode, err = strconv.Atoi(string(f[exit])); err != nil {
		return ProcStat{}, fmt.Errorf("exit code in stat: %w", err)
	}
	return st, nil
}

func clip(b []byte) []byte {
	if len(b) > 80 {
		return b[:80]
	}
	return b
}

// StartTime returns the process's start in clock ticks since boot.
func StartTime(pid int) (uint64, error) {
	st, err := ReadProcStat(pid)
	return st.StartTime, err
}

// Alive says whether this very process, by pid and start time, still runs.
func Alive(pid int, startTime uint64) bool {
	st, err := ReadProcStat(pid)
	return err == nil && st.StartTime == startTime && st.State != 'Z' && st.State != 'X'
}

// BootID names this boot of the kernel.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(b)), err
}
