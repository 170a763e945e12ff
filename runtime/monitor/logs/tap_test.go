package logs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

type recorder struct {
	got  [2]string
	fail error
}

func (r *recorder) Output(s Stream, b []byte) error {
	r.got[s] += string(b)
	return r.fail
}

func TestTap(t *testing.T) {
	dir := t.TempDir()
	l, err := Create(filepath.Join(dir, "carry"), filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	raw, err := r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	feed := func(text string) { // one batch
		w.WriteString(text)
		var pulled error
		raw.Control(func(fd uintptr) { pulled = l.pull(Stderr, int(fd)) })
		if pulled != nil {
			t.Fatal(pulled)
		}
	}
	first, second, fails := &recorder{}, &recorder{}, &recorder{fail: errors.New("full")}
	feed("before\nha")
	l.AddTap(first)
	l.AddTap(fails)
	feed("lf\n\x00no line end")
	l.AddTap(second)
	l.RemoveTap(first)
	l.RemoveTap(first)
	feed("later\n")
	for name, c := range map[string]struct {
		tap  *recorder
		want string
	}{
		"from the middle of a line, until removed": {first, "lf\n\x00no line end"},
		"added later":          {second, "later\n"},
		"dropped as it failed": {fails, "lf\n\x00no line end"},
	} {
		if c.tap.got != [2]string{Stderr: c.want} {
			t.Errorf("%s: %q", name, c.tap.got)
		}
	}
}
