package stats

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestRate(t *testing.T) {
	at := time.Now()
	var m Meter
	for i, step := range []struct {
		after time.Duration
		usage uint64
		want  *uint64
	}{
		{0, 1e9, nil},                             // the first one says nothing
		{10 * time.Millisecond, 2e9, nil},         // too short a time
		{2 * time.Second, 2e9, u(5e8)},            // since the first
		{2*time.Second + 1, 2e9 + 1e6, u(5005e5)}, // still since the first: the second is too young
		{4 * time.Second, 4e9, u(1e9)},            // since the one at 2 s
		{5 * time.Second, 3e9, nil},               // a counter that went back
		{7 * time.Second, 4e9, u(5e8)},            // and goes on
	} {
		got := m.rate(Sample{At: at.Add(step.after), CPU: &CPU{Usage: step.usage}})
		if (got == nil) != (step.want == nil) || got != nil && (*got > *step.want+1000 || *got+1000 < *step.want) {
			t.Errorf("%d: %v", i, value(got))
		}
	}
}

func value(n *uint64) any {
	if n == nil {
		return nil
	}
	return *n
}

func TestMeter(t *testing.T) {
	dir := fake(t, map[string]string{"pids.current": "4\n"})
	find := func(string) (string, bool) { return dir, true }
	var m Meter
	before := open.Load()
	if r, err := m.Read(find, Tasks); err != nil || *r.Tasks != 4 || r.Detail != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err := m.Read(nil, All); err != nil || r.Detail == nil { // the files are kept
		t.Fatalf("%+v, %v", r, err)
	}
	if open.Load() != before+1 {
		t.Errorf("%d descriptors are kept, want 1", open.Load()-before)
	}
	m.Close()
	m.Close()
	if open.Load() != before {
		t.Errorf("%d descriptors are left", open.Load()-before)
	}
	if _, err := m.Read(find, Tasks); !errdefs.IsNotFound(err) {
		t.Errorf("after its end: %v", err)
	}
}

// With no room for descriptors every reading opens the files.
func TestNoRoom(t *testing.T) {
	was := room
	room = func() int64 { return 0 }
	t.Cleanup(func() { room = was })
	dir := fake(t, map[string]string{"pids.current": "4\n"})
	r := NewReader(func(string) (string, bool) { return dir, true })
	defer r.Close()
	before := open.Load()
	for range 2 {
		if s, err := r.Read(Tasks); err != nil || *s.Tasks != 4 || open.Load() != before {
			t.Fatalf("%+v, %v, %d descriptors", s, err, open.Load()-before)
		}
	}
	if err := os.Remove(filepath.Join(dir, "pids.current")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(Tasks); !errdefs.IsNotFound(err) {
		t.Errorf("of a removed cgroup: %v", err)
	}
}
