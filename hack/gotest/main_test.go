package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// line makes one of test2json's lines.
func line(action, test, output string) string {
	text, err := json.Marshal(event{Action: action, Package: "p", Test: test, Output: output})
	if err != nil {
		panic(err)
	}
	return string(text) + "\n"
}

func TestSummary(t *testing.T) {
	tests := []struct {
		situation string
		in        string
		want      []string
		wantNot   []string
	}{
		{
			"passed, with subtests counted instead of their parent",
			line("run", "A", "") + line("run", "A/x", "") + line("run", "A/y", "") + line("output", "A/x", "noise\n") +
				line("pass", "A/x", "") + line("pass", "A/y", "") + line("pass", "A", "") + line("output", "", "ok  \tp\t0.1s\n"),
			[]string{"ok  \tp\t0.1s\n", "\n2 passed, 0 failed, 0 skipped\n"},
			[]string{"noise"},
		},
		{
			"skipped, with its reason",
			line("run", "A", "") + line("output", "A", "=== RUN   A\n") + line("output", "A", "    a_test.go:7: no AppArmor here: none\n") +
				line("output", "A", "--- SKIP: A (0.00s)\n") + line("skip", "A", ""),
			[]string{"p A: no AppArmor here: none\n", "\n0 passed, 0 failed, 1 skipped\n"},
			nil,
		},
		{
			"failed below a parent, counted once and shown",
			line("run", "A", "") + line("run", "A/x", "") + line("output", "A/x", "got 1\n") + line("fail", "A/x", "") +
				line("fail", "A", "") + line("output", "", "FAIL\tp\t0.1s\n") + line("fail", "", ""),
			[]string{"got 1\n", "FAIL\tp\t0.1s\n", "\n0 passed, 1 failed, 0 skipped\n"},
			nil,
		},
		{
			"crashed in the middle",
			line("run", "A", "") + line("output", "A", "panic: oh\n") + line("output", "", "FAIL\tp\t0.1s\n") + line("fail", "", ""),
			[]string{"panic: oh\n", "\n0 passed, 1 failed, 0 skipped\n"},
			nil,
		},
		{"a line that is no JSON", "go: cannot\n", []string{"go: cannot\n"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.situation, func(t *testing.T) {
			var out strings.Builder
			s := newSummary(&out)
			s.read(strings.NewReader(tt.in))
			s.close()
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, out.String())
				}
			}
			for _, not := range tt.wantNot {
				if strings.Contains(out.String(), not) {
					t.Errorf("%q in\n%s", not, out.String())
				}
			}
		})
	}
}
