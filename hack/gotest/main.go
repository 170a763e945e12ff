package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
	s := newSummary(os.Stdout)
	s.read(out)
	err = cmd.Wait()
	s.close()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	case err != nil:
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	case s.failed > 0 || s.passed == 0:
		os.Exit(1)
	}
}

// event is one line of test2json, see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // of a build
	Test       string
	Output     string
}

type testName struct{ pkg, test string }

// summary prints and counts. Output is kept per test until its end tells
// whether anybody wants to see it.
type summary struct {
	w       io.Writer
	pending map[testName][]string
	parents map[testName]bool // tests that have subtests
	ended   map[testName]string
	reasons map[testName]string

	passed, failed, skipped int
}

func newSummary(w io.Writer) *summary {
	return &summary{
		w:       w,
		pending: map[testName][]string{},
		parents: map[testName]bool{},
		ended:   map[testName]string{},
		reasons: map[testName]string{},
	}
}

func (s *summary) read(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				s.w.Write(line) // not test2json's: show it
			} else {
				s.add(e)
			}
		}
		if err != nil {
			return
		}
	}
}

func (s *summary) add(e event) {
	name := testName{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.w, e.Output)
	case "run":
		if slash := strings.LastIndexByte(e.Test, '/'); slash > 0 {
			s.parents[testName{e.Package, e.Test[:slash]}] = true
		}
	case "output":
		s.output(name, e.Output)
	case "pass", "fail", "skip":
		s.end(name, e.Action)
	}
}

func (s *summary) output(name testName, text string) {
	if name.test != "" {
		s.pending[name] = append(s.pending[name], text)
		return
	}
	// Of the package itself: the closing line goes out at once, the noise of
	// its tests ("PASS", prints of TestMain) only if it fails.
	if strings.HasPrefix(text, "ok ") || strings.HasPrefix(text, "FAIL\t") || strings.HasPrefix(text, "?  ") {
		if strings.HasPrefix(text, "FAIL\t") {
			s.flush(name)
		}
		fmt.Fprint(s.w, text)
		return
	}
	s.pending[name] = append(s.pending[name], text)
}

func (s *summary) end(name testName, action string) {
	if name.test == "" {
		s.endPackage(name, action)
		return
	}
	s.ended[name] = action
	switch action {
	case "fail":
		s.flush(name)
	case "skip":
		s.reasons[name] = reason(s.pending[name])
	}
	delete(s.pending, name)
}

// endPackage shows what was running when a package crashed or timed out: those
// tests never ended.
func (s *summary) endPackage(name testName, action string) {
	for _, n := range sorted(s.pending) {
		if n.pkg != name.pkg {
			continue
		}
		if action == "fail" && n.test != "" {
			s.flush(n)
			s.ended[n] = "fail"
		}
		delete(s.pending, n)
	}
}

func (s *summary) flush(name testName) {
	for _, line := range s.pending[name] {
		fmt.Fprint(s.w, line)
	}
	delete(s.pending, name)
}

// reason is what t.Skip said: its line is "    file.go:12: the reason".
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "---") || strings.HasPrefix(line, "===") {
			continue
		}
		if _, why, ok := strings.Cut(line, ".go:"); ok {
			if _, why, ok = strings.Cut(why, ": "); ok {
				return why
			}
		}
		return line
	}
	return "no reason given"
}

// close counts each test once: a test with subtests is counted by those,
// unless it failed or was skipped itself.
func (s *summary) close() {
	var skips []string
	for _, n := range sorted(s.ended) {
		switch action := s.ended[n]; {
		case action == "fail":
			if !s.failedBelow(n) {
				s.failed++
			}
		case action == "skip":
			s.skipped++
			skips = append(skips, fmt.Sprintf("  %s %s: %s", n.pkg, n.test, s.reasons[n]))
		case !s.parents[n]:
			s.passed++
		}
	}
	if len(skips) > 0 {
		fmt.Fprintf(s.w, "\nskipped:\n%s\n", strings.Join(skips, "\n"))
	}
	fmt.Fprintf(s.w, "\n%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
}

func (s *summary) failedBelow(name testName) bool {
	if !s.parents[name] {
		return false
	}
	for n, action := range s.ended {
		if action == "fail" && n.pkg == name.pkg && strings.HasPrefix(n.test, name.test+"/") {
			return true
		}
	}
	return false
}

func sorted[V any](m map[testName]V) []testName {
	return slices.SortedFunc(maps.Keys(m), func(a, b testName) int {
		return cmp.Or(strings.Compare(a.pkg, b.pkg), strings.Compare(a.test, b.test))
	})
}
