package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// knownHelpers are programs that runtimes leave beside their daemon, by the
// start of their command lines.
var knownHelpers = regexp.MustCompile(`^(\S*/)?(berth-monitor|berth-init|containerd-shim\S*|conmon|conmonrs|crio|containerd|pause|runc|crun)( |$)`)

// process is what matters of one.
type process struct {
	parent  int
	command string        // the arguments, with spaces
	cpu     time.Duration // its own and that of its children that have ended
}

// look is the state of a runtime's processes at one moment.
type look struct {
	processes map[int]process
	everyone  map[int]process // on the machine
	pss       uint64
	cpu       time.Duration
}

// look finds the processes of the runtime: the daemon behind the socket with
// all it started, and likewise helpers that name the socket's directory (shims,
// monitors), what the -processes flag matches, and, since the earlier look,
// every known helper that is new: the runtimes take turns, so it belongs to
// this one. The containers' own processes do not count.
func (s *subject) look(earlier *look) (*look, error) {
	daemon, err := socketOwner(s.socket)
	if err != nil {
		return nil, s.errorf("find the daemon", err)
	}
	l := &look{processes: map[int]process{}}
	if l.everyone, err = allProcesses(); err != nil {
		return nil, err
	}
	container := strings.Join(s.command, " ")
	for pid, p := range l.everyone {
		if p.command == "" || p.command == container || pid == os.Getpid() {
			continue // a kernel thread or zombie, a container
		}
		if s.belongs(l.everyone, pid, daemon, earlier) {
			l.processes[pid] = p
			l.cpu += p.cpu
			l.pss += pss(pid)
		}
	}
	return l, nil
}

func (s *subject) belongs(everyone map[int]process, pid, daemon int, earlier *look) bool {
	for up := pid; up > 1; up = everyone[up].parent {
		if up == daemon || s.helper(everyone[up].command, up, earlier) {
			return true
		}
	}
	return false
}

func (s *subject) helper(command string, pid int, earlier *look) bool {
	if s.helpers != nil && s.helpers.MatchString(command) {
		return true
	}
	if !knownHelpers.MatchString(command) {
		return false
	}
	if strings.Contains(command, filepath.Dir(s.socket)+"/") {
		return true
	}
	if earlier == nil {
		return false
	}
	if _, mine := earlier.processes[pid]; mine {
		return true
	}
	_, old := earlier.everyone[pid]
	return !old
}

// socketOwner is the pid of the process that listens.
func socketOwner(socket string) (int, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) {
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if inner != nil {
		return 0, inner
	}
	if cred.Pid == 0 {
		return 0, errors.New("it is in another PID namespace")
	}
	return int(cred.Pid), nil
}

func allProcesses() (map[int]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all := make(map[int]process, len(dirs))
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it has ended
		}
		p, err := parseStat(stat)
		if err != nil {
			return nil, fmt.Errorf("%s/stat: %w", dir, err)
		}
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		p.command = strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
		all[pid] = p
	}
	return all, nil
}

// parseStat reads proc_pid_stat(5): the parent is field 4, the CPU times are
// fields 14 to 17. The name, field 2, may hold anything.
func parseStat(stat []byte) (process, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return process{}, errors.New("no name")
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 15 {
		return process{}, errors.New("too short")
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return process{}, err
	}
	var ticks int64
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return process{}, err
		}
		ticks += n
	}
	const hz = 100 // USER_HZ, on every architecture that matters
	return process{parent: parent, cpu: time.Duration(ticks) * time.Second / hz}, nil
}

// pss is the memory of a process with each shared page divided by its users.
func pss(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0 // it has ended
	}
	return parsePSS(text)
}

func parsePSS(rollup []byte) uint64 {
	for line := range bytes.Lines(rollup) {
		if rest, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
			fields := strings.Fields(string(rest))
			if len(fields) == 2 {
				n, _ := strconv.ParseUint(fields[0], 10, 64)
				return n << 10
			}
		}
	}
	return 0
}
