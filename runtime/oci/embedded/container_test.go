package embedded

import (
	"strings"
	"testing"
)

func TestContainerRunsItsProgram(t *testing.T) {
	p, err := Compile(script("id -u; hostname; exit 7"), overlayOf(t))
	r := run(t, p, err)
	if got := strings.Fields(r.stdout); len(got) != 2 || got[0] != "0" || got[1] != "box" || r.status.ExitStatus() != 7 {
		t.Fatalf("stdout %q, stderr %q, status %#x", r.stdout, r.stderr, r.status)
	}
}
