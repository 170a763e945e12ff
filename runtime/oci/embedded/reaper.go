package embedded

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// CompileReaper makes the plan of the process 1 of a pod whose containers share
// one PID namespace: it reaps until SIGTERM or SIGINT, and with it everything in
// the namespace ends. join are the pod's pinned namespaces; the PID namespace is
// new. user is who it runs as.
//
// The process is a program of a few instructions in an otherwise empty root: 500
// pods should not carry 500 Go runtimes. The kernel reaps for it, since SIGCHLD
// is ignored, and keeps the blocked SIGTERM for it; both survive execve.
func CompileReaper(join []Namespace, user uint32) (Prepared, error) {
	c := &compilation{prepared: Prepared{Join: join, CloneFlags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}}
	const program = "/berth-reaper"
	signals := uint64(1)<<(unix.SIGTERM-1) | 1<<(unix.SIGINT-1)
	c.add(
		&plan.Keyring{},
		&plan.Propagate{Flags: unix.MS_PRIVATE | unix.MS_REC},
		&plan.RootTmpfs{},
		&plan.File{Path: program, Mode: 0o555, Data: executable(reaperCode(signals))},
		&plan.ReadonlyMount{Path: "/"},
		&plan.PivotRoot{},
		&plan.Session{},
		&plan.NoNewPrivileges{},
		&plan.Bounding{},
		&plan.Chdir{Path: "/"},
		&plan.User{UID: user, GID: user},
		&plan.Capabilities{},
		&plan.Umask{Mask: 0o077},
		&plan.Program{Args: []string{program}, KeepSignals: signals, IgnoreChildren: true},
		&plan.Exec{},
	)
	return c.finish()
}

// Nobody is the user that pause containers run as.
const Nobody = 65535

// executable puts code into the smallest ELF file that the kernel runs: a header,
// one segment of everything, readable and executable, and the code behind them.
func executable(code []byte) []byte {
	const (
		address            = 0x400000
		header, segment    = 64, 56
		typeExec, current  = 2, 1
		load, readExecute  = 1, 4 | 1
		elf64LittleEndian  = "\x7fELF\x02\x01\x01"
		page               = 0x10000 // the largest of arm64
		start              = header + segment
		noSections, noName = 0, 0
	)
	size := uint64(start + len(code))
	b := bytes.NewBuffer(make([]byte, 0, size))
	b.WriteString(elf64LittleEndian)
	b.Write(make([]byte, 16-b.Len()))
	for _, field := range []any{
		// Elf64_Ehdr
		uint16(typeExec), uint16(reaperMachine), uint32(current),
		uint64(address + start), uint64(header), uint64(noSections), uint32(0),
		uint16(header), uint16(segment), uint16(1), uint16(64), uint16(noSections), uint16(noName),
		// Elf64_Phdr
		uint32(load), uint32(readExecute), uint64(0), uint64(address), uint64(address),
		size, size, uint64(page),
		code,
	} {
		_ = binary.Write(b, binary.LittleEndian, field) // a buffer takes everything
	}
	return b.Bytes()
}
