package embedded

import (
	"os"
	"testing"
)

// The program is one of many descriptors, and ForkExec moves those in its way to
// just above the highest that it passes on: once that was where the program lay
// (exec format error, when many processes were started at the same time).
func TestProgramAmongManyDescriptors(t *testing.T) {
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	target := background(t, script("sleep 1000"), overlayOf(t))
	for range 100 {
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
		p, err := CompileExec(script("true"), script("true").Process)
		if r := run(t, p, err, func(s *Start) { s.TargetPidfd = target.Pidfd }); r.status.ExitStatus() != 0 {
			t.Fatalf("with %d more descriptors: %v", len(open), r)
		}
	}
}
