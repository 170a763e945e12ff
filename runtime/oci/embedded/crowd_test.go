package embedded

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// ForkExec moves descriptors that are in its way to just above the highest that
// it passes on: once the program lay there (exec format error, when many
// processes were started at the same time).
func TestProgramJustAboveTheChildsDescriptors(t *testing.T) {
	target := background(t, script("sleep 1000"), overlayOf(t))
	high, err := unix.FcntlInt(launcher.program.Fd(), unix.F_DUPFD_CLOEXEC, 200)
	if err != nil {
		t.Fatal(err)
	}
	usual, crowded := launcher, *launcher
	crowded.program = os.NewFile(uintptr(high), "berth-init")
	launcher = &crowded
	defer func() { launcher = usual; crowded.program.Close() }()
	below := high - 1
	p, err := CompileExec(script("true"), script("true").Process)
	r := run(t, p, err, func(s *Start) {
		s.TargetPidfd = target.Pidfd
		if _, err := unix.FcntlInt(uintptr(below), unix.F_GETFD, 0); err == nil {
			t.Skipf("descriptor %d is in use", below)
		}
		if err := unix.Dup3(int(s.Plan.Fd()), below, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		s.Plan.Close()
		s.Plan = os.NewFile(uintptr(below), "plan")
	})
	if r.status.ExitStatus() != 0 {
		t.Fatalf("%v", r)
	}
}
