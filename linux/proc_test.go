package linux

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseProcStat(t *testing.T) {
	tail := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 256"
	for name, tc := range map[string]struct {
		in  string
		ok  bool
		pid ProcStat
	}{
		"plain":                      {"7 (sh)" + tail, true, ProcStat{'S', 4242, 256}},
		"name with ) and space":      {"7 (a) R 1 (b)" + tail, true, ProcStat{'S', 4242, 256}},
		"empty":                      {"", false, ProcStat{}},
		"nothing behind the name":    {"7 (sh)", false, ProcStat{}},
		"cut in the middle":          {"7 (sh) S 1 2", false, ProcStat{}},
		"start time is not a number": {"7 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x" + tail, false, ProcStat{}},
	} {
		got, err := parseProcStat([]byte(tc.in))
		if (err == nil) != tc.ok || got != tc.pid && tc.ok {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestPidfdFollowsOneProcess(t *testing.T) {
	cmd := exec.Command("sh", "-c", "read x; exit 42")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	fd, err := PidfdOpen(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	start, err := StartTime(pid)
	if err != nil || !Alive(pid, start) || Alive(pid, start+1) {
		t.Fatalf("alive by pid and start time: %v, start %d", err, start)
	}
	if dead, err := PidfdDead(fd, 0); dead || err != nil {
		t.Fatalf("dead %v, %v while it runs", dead, err)
	}
	in.Close()
	if dead, err := PidfdDead(fd, 10*time.Second); !dead || err != nil {
		t.Fatalf("dead %v, %v after it ended", dead, err)
	}
	st, err := ReadProcStat(pid)
	if err != nil || st.State != 'Z' || unix.WaitStatus(st.ExitCode).ExitStatus() != 42 {
		t.Fatalf("zombie: %+v, %v", st, err)
	}
	if Alive(pid, start) {
		t.Fatal("a zombie counts as alive")
	}
	cmd.Wait()
	if err := PidfdSignal(fd, 0); err == nil {
		t.Fatal("signal reached a reaped process")
	}
	if s, ok, err := PidfdExit(fd); err != nil || ok && s.ExitStatus() != 42 {
		t.Fatalf("exit %v %v %v", s, ok, err)
	} else if !ok {
		t.Skip("kernel without PIDFD_GET_INFO exit information (6.15)")
	}
}

func FuzzParseProcStat(f *testing.F) {
	b, _ := os.ReadFile("/proc/self/stat")
	f.Add(b)
	f.Add([]byte("1 () "))
	f.Fuzz(func(t *testing.T, b []byte) { parseProcStat(b) })
}
