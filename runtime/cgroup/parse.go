package cgroup

import (
	"bytes"
	"fmt"
	"strconv"
)

// parsePids reads cgroup.procs. A process outside of our PID namespace is
// listed as 0, which kill(2) would take for "my own group": left out.
func parsePids(b []byte) ([]int, error) {
	var pids []int
	for line := range bytes.Lines(b) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		pid, err := strconv.ParseUint(string(line), 10, 31)
		if err != nil {
			return nil, fmt.Errorf("cgroup.procs: %w", err)
		}
		if pid != 0 {
			pids = append(pids, int(pid))
		}
	}
	return pids, nil
}

// parseKey finds "key value" in a flat keyed file such as memory.events.
func parseKey(b []byte, key string) (value uint64, ok bool, err error) {
	for line := range bytes.Lines(b) {
		k, v, found := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if !found || string(k) != key {
			continue
		}
		value, err := strconv.ParseUint(string(v), 10, 64)
		if err != nil {
			return 0, false, fmt.Errorf("%s: %w", key, err)
		}
		return value, true, nil
	}
	return 0, false, nil
}

// lineOf finds the line of a nested keyed file ("8:0 rbps=1 …") that starts
// with the key, without its line break.
func lineOf(b []byte, key string) string {
	for line := range bytes.Lines(b) {
		line = bytes.TrimRight(line, "\n")
		if k, _, _ := bytes.Cut(line, []byte(" ")); string(k) == key {
			return string(line)
		}
	}
	return ""
}
