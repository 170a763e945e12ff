package monitor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOwnLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "monitor.log")
	open := func() *os.File {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	const limit, lines = 1000, 200
	// Two processes with the same file: the monitor and the store.
	one, two := &ownLog{path: path, limit: limit, err: open()}, &ownLog{path: path, limit: limit, err: open()}
	for i := range lines {
		for _, l := range []*ownLog{one, two} {
			if _, err := fmt.Fprintf(l, "line %04d\n", i); err != nil {
				t.Fatal(err)
			}
		}
	}
	var all string
	for _, name := range []string{path + ".1", path} {
		b, err := os.ReadFile(name)
		if err != nil || len(b) > limit {
			t.Errorf("%s has %d bytes: %v", name, len(b), err)
		}
		all += string(b)
	}
	if !strings.HasSuffix(all, fmt.Sprintf("line %04d\n", lines-1)) {
		t.Errorf("the last lines are missing: %q", all[max(0, len(all)-100):])
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 2 {
		t.Errorf("files: %v", left)
	}
	// A directory in the way: the log goes on where it is.
	os.Remove(path + ".1")
	if err := os.MkdirAll(path+".1/x", 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range lines {
		if _, err := fmt.Fprintf(two, "line %04d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if b, _ := os.ReadFile(path); !strings.Contains(string(b), "rotate the log") || !strings.Contains(string(b), fmt.Sprintf("line %04d\n", lines-1)) {
		t.Errorf("%q", b)
	}
}
