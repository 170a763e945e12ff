package operator

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for line, want := range map[string]string{
		"2026-01-02T03:04:05.000000006Z stdout F text\n":       "stdout text\n false",
		"2026-01-02T03:04:05.000000006Z stderr P part\n":       "stderr part true",
		"2026-01-02T03:04:05.000000006Z stdout F \n":           "stdout \n false",
		"2026-01-02T03:04:05+02:00 stdout F:x more  spaces \n": "stdout more  spaces \n false",
	} {
		e, partial, err := parse(line)
		if got := fmt.Sprintf("%s %s %v", e.stream, e.text, partial); err != nil || got != want || e.at.Year() != 2026 {
			t.Errorf("%q: %q, %v", line, got, err)
		}
	}
	for _, line := range []string{"", "\n", "text\n", "yesterday stdout F x\n", "2026-01-02T03:04:05Z stdin F x\n", "2026-01-02T03:04:05Z stdout X x\n", "2026-01-02T03:04:05Z stdout\n"} {
		if _, _, err := parse(line); err == nil {
			t.Errorf("%q is taken for a line of a log", line)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("2026-01-02T03:04:05.000000006Z stdout F text\n")
	f.Add("2026-01-02T03:04:05Z stderr P:tag \x00\n")
	f.Fuzz(func(t *testing.T, line string) {
		e, partial, err := parse(line)
		if err != nil {
			return
		}
		if partial == strings.HasSuffix(e.text, "\n") && !strings.HasSuffix(line, "\n\n") || e.stream != "stdout" && e.stream != "stderr" || len(e.text) > len(line)+1 {
			t.Errorf("%q: %+v %v", line, e, partial)
		}
	})
}

func TestSeekTail(t *testing.T) {
	long := strings.Repeat("x", 100_000) // more than what is read at once
	for name, tc := range map[string]struct {
		content string
		n       int
		want    string
	}{
		"two of three":           {"a\nb\nc\n", 2, "b\nc\n"},
		"none":                   {"a\nb\n", 0, ""},
		"more than there are":    {"a\nb\n", 9, "a\nb\n"},
		"exactly all":            {"a\nb\n", 2, "a\nb\n"},
		"of an empty file":       {"", 3, ""},
		"without a last newline": {"a\nb\nc", 2, "b\nc"},
		"long lines":             {"a\n" + long + "\n" + long + "\n", 1, long + "\n"},
		"empty lines":            {"\n\n\n", 2, "\n\n"},
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := seekTail(f, tc.n); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b := make([]byte, len(tc.content)+1)
		n, _ := f.Read(b)
		if string(b[:n]) != tc.want {
			t.Errorf("%s: %.50q", name, b[:n])
		}
	}
}

func TestSinceTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"":                     {},
		"10m":                  now.Add(-10 * time.Minute),
		"2026-01-01T00:00:00Z": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := sinceTime(s, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v", s, got, err)
		}
	}
	if _, err := sinceTime("yesterday", now); err == nil {
		t.Error("yesterday is taken")
	}
}
