package seccomp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// i386Program is a whole ELF program that makes one syscall with one argument
// through the 32-bit gate and exits with its errno.
func i386Program(nr, arg uint32) []byte {
	const base, headers = 0x10000, 52 + 32
	var text bytes.Buffer
	word := func(op byte, v uint32) {
		text.WriteByte(op)
		_ = binary.Write(&text, binary.LittleEndian, v)
	}
	word(0xb8, nr)                             // mov eax
	word(0xbb, arg)                            // mov ebx
	word(0xb9, 0)                              // mov ecx
	text.Write([]byte{0xcd, 0x80})             // int 0x80
	text.Write([]byte{0xf7, 0xd8, 0x89, 0xc3}) // neg eax; mov ebx, eax
	word(0xb8, 1)                              // mov eax, exit
	text.Write([]byte{0xcd, 0x80})             // int 0x80
	size := uint32(headers + text.Len())
	var out bytes.Buffer
	out.WriteString("\x7fELF\x01\x01\x01" + strings.Repeat("\x00", 9))
	for _, v := range []any{
		uint16(2), uint16(3), uint32(1), uint32(base + headers), uint32(52), uint32(0), uint32(0), // executable for i386, entry, program header
		uint16(52), uint16(32), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(0), uint32(base), uint32(base), size, size, uint32(5), uint32(0x1000), // one segment, readable and executable
	} {
		_ = binary.Write(&out, binary.LittleEndian, v)
	}
	return append(out.Bytes(), text.Bytes()...)
}

// A filter must hold for programs of the other ABI too, and through the
// multiplexer that only they have.
func TestKernelObeysForI386(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("only amd64 runs i386 programs")
	}
	run := func(t *testing.T, profile string, nr, arg uint32) (string, error) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(path, i386Program(nr, arg), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path)
		if profile != "" {
			cmd = exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "BERTH_SECCOMP_CHILD="+profile, "BERTH_SECCOMP_EXEC="+path)
		}
		err := cmd.Run()
		if cmd.ProcessState == nil {
			return "", err
		}
		return cmd.ProcessState.String(), nil
	}
	if state, err := run(t, "", 20, 0); err != nil { // getpid
		t.Skipf("the kernel does not run i386 programs: %s %v", state, err)
	}
	const getpriority, socketcall, chdir = 96, 102, 12
	for what, c := range map[string]struct {
		profile string
		nr, arg uint32
		want    string
	}{
		"a denied call":                    {"deny", getpriority, 0, fmt.Sprintf("exit status %d", unix.EXDEV)},
		"a call that is not named":         {"deny", chdir, 0, fmt.Sprintf("exit status %d", unix.EFAULT)},
		"a denied call, multiplexed":       {"deny", socketcall, 1, fmt.Sprintf("exit status %d", unix.EACCES)},
		"another call of the multiplexer":  {"deny", socketcall, 8, fmt.Sprintf("exit status %d", unix.EFAULT)},
		"a call that came later":           {"default", 9999, 0, fmt.Sprintf("exit status %d", unix.ENOSYS)},
		"a profile that has no i386 in it": {"x32", getpriority, 0, "signal: bad system call (core dumped)"},
	} {
		t.Run(what, func(t *testing.T) {
			got, err := run(t, c.profile, c.nr, c.arg)
			if err != nil || strings.TrimSuffix(got, " (core dumped)") != strings.TrimSuffix(c.want, " (core dumped)") {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}
