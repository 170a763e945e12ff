package cgroup

import (
	"strings"
	"testing"
)

func TestParsePids(t *testing.T) {
	for in, want := range map[string]int{"": 0, "\n": 0, "12\n13\n": 2, "0\n7\n": 1, "5": 1} {
		if pids, err := parsePids([]byte(in)); err != nil || len(pids) != want {
			t.Errorf("%q: %v %v", in, pids, err)
		}
	}
	for _, in := range []string{"-1\n", "x", "4294967296\n", "1 2\n"} {
		if pids, err := parsePids([]byte(in)); err == nil {
			t.Errorf("%q: %v", in, pids)
		}
	}
}

func TestParseKey(t *testing.T) {
	const events = "low 0\nhigh 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 0\n"
	if n, ok, err := parseKey([]byte(events), "oom_kill"); n != 3 || !ok || err != nil {
		t.Error(n, ok, err)
	}
	if _, ok, err := parseKey([]byte(events), "oom_kil"); ok || err != nil {
		t.Error(ok, err)
	}
	if _, _, err := parseKey([]byte("oom_kill x\n"), "oom_kill"); err == nil {
		t.Error("x is a number")
	}
}

func FuzzParsers(f *testing.F) {
	f.Add([]byte("12\n13\n"), "12")
	f.Add([]byte("oom_kill 3\npopulated 1\n"), "oom_kill")
	f.Add([]byte("8:0 rbps=1\n8:16 rbps=max\n"), "8:16")
	f.Fuzz(func(t *testing.T, b []byte, key string) {
		pids, err := parsePids(b)
		for _, pid := range pids {
			if pid <= 0 || err != nil {
				t.Errorf("pid %d, %v", pid, err)
			}
		}
		parseKey(b, key)
		if line := lineOf(b, key); line != "" && (!strings.HasPrefix(line, key) || strings.Contains(line, "\n")) {
			t.Errorf("line %q for %q", line, key)
		}
	})
}
