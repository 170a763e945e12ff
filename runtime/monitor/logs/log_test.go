package logs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/fault"
)

var linePattern = regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([PF]) (.*)$`)

type line struct {
	time, stream, tag, text string
}

func parse(t testing.TB, b []byte) []line {
	t.Helper()
	if len(b) > 0 && b[len(b)-1] != '\n' {
		t.Fatalf("torn last line: %.80q", b[max(0, len(b)-80):])
	}
	var lines []line
	last := ""
	for l := range strings.Lines(string(b)) {
		m := linePattern.FindStringSubmatch(strings.TrimSuffix(l, "\n"))
		if m == nil {
			t.Fatalf("bad line %.120q", l)
		}
		if m[1] < last {
			t.Fatalf("time goes back: %s after %s", m[1], last)
		}
		last = m[1]
		lines = append(lines, line{m[1], m[2], m[3], m[4]})
	}
	return lines
}

// content is what the container wrote to a stream.
func content(lines []line, stream string) string {
	var b strings.Builder
	for _, l := range lines {
		if l.stream != stream {
			continue
		}
		b.WriteString(l.text)
		if l.tag == "F" {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pipe gives a pipe whose reading end suits Drain.
func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestAppendLines(t *testing.T) {
	long := strings.Repeat("x", lineLimit)
	for name, tc := range map[string]struct {
		in, out string
		last    bool
		used    int
	}{
		"nothing":                         {"", "", false, 0},
		"one line":                        {"a\n", "F a\n", false, 2},
		"empty line":                      {"\n", "F \n", false, 1},
		"unfinished line waits":           {"a\nbc", "F a\n", false, 2},
		"unfinished line at the end":      {"a\nbc", "F a\nP bc\n", true, 4},
		"carriage return is content":      {"a\r\n", "F a\r\n", false, 3},
		"NUL is content":                  {"a\x00b\n", "F a\x00b\n", false, 4},
		"longest line":                    {long + "\n", "F " + long + "\n", false, lineLimit + 1},
		"longest without newline waits":   {long, "", false, 0},
		"one byte too long":               {long + "y\n", "P " + long + "\nF y\n", false, lineLimit + 2},
		"twice too long, unfinished":      {long + long + "yz", "P " + long + "\nP " + long + "\n", false, 2 * lineLimit},
		"twice too long, ended by EOF":    {long + long + "yz", "P " + long + "\nP " + long + "\nP yz\n", true, 2*lineLimit + 2},
		"parts, then exactly the longest": {long + long + "\n", "P " + long + "\nF " + long + "\n", false, 2*lineLimit + 1},
	} {
		out, used := appendLines(make([]byte, 0, 1<<20), nil, []byte(tc.in), tc.last)
		if string(out) != tc.out || used != tc.used {
			t.Errorf("%s: got %.60q (%d), want %.60q (%d)", name, out, used, tc.out, tc.used)
		}
		again, n := appendLines(make([]byte, 0, len(out)+lineExtra), nil, []byte(tc.in)[:used], true)
		if !bytes.Equal(again, out) || n != used {
			t.Errorf("%s: formatting the covered bytes again gives %.60q", name, again)
		}
	}
}

func TestDrainWritesBothStreams(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pod", "0.log")
	l, err := Create(filepath.Join(dir, "carry"), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	done := make(chan error, 2)
	go func() { done <- l.Drain(Stdout, outR) }()
	go func() { done <- l.Drain(Stderr, errR) }()
	var wantOut, wantErr strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&wantOut, "line %d %s\n", i, strings.Repeat("o", rand.IntN(300)))
		fmt.Fprintf(&wantErr, "line %d\n", i)
	}
	wantOut.WriteString(strings.Repeat("long", 30000) + "\nlast without newline")
	go func() { errW.WriteString(wantErr.String()); errW.Close() }()
	outW.WriteString(wantOut.String())
	outW.Close()
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	lines := parse(t, read(t, path))
	if content(lines, "stdout") != wantOut.String() || content(lines, "stderr") != wantErr.String() {
		t.Fatal("the log does not hold what was written")
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o640 {
		t.Fatalf("mode %v", st.Mode())
	}
	if s := l.Status(); s != (Status{}) {
		t.Fatalf("status %+v", s)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	l, err := Create(filepath.Join(dir, "carry"), path)
	if err != nil {
		t.Fatal(err)
	}
	r, w := pipe(t)
	done := make(chan error, 1)
	go func() { done <- l.Drain(Stdout, r) }()
	var want strings.Builder
	for i := range 50 {
		s := fmt.Sprintf("line %d\n", i)
		w.WriteString(s)
		want.WriteString(s)
		if i%10 != 9 {
			continue
		}
		if err := os.Rename(path, fmt.Sprintf("%s.%d", path, i)); err != nil {
			t.Fatal(err)
		}
		if err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Fatal("no new file when Reopen returned:", err)
		}
	}
	w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var all []line
	for _, i := range []int{9, 19, 29, 39, 49} {
		all = append(all, parse(t, read(t, fmt.Sprintf("%s.%d", path, i)))...)
	}
	all = append(all, parse(t, read(t, path))...)
	if content(all, "stdout") != want.String() {
		t.Fatal("lines lost or twice over rotations")
	}
	l.Close()
	if err := l.Reopen(); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("reopen after close: %v", err)
	}
}

func TestNoLogPathDrains(t *testing.T) {
	dir := t.TempDir()
	l, err := Create(filepath.Join(dir, "carry"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, w := pipe(t)
	done := make(chan error, 1)
	go func() { done <- l.Drain(Stdout, r) }()
	w.Write(make([]byte, 1<<20))
	w.Close()
	if err := <-done; err != nil || l.Status() != (Status{}) {
		t.Fatal(err, l.Status())
	}
}

// TestFullDisk fills a small file system: output goes on being read, and once
// there is space again the log says how much is missing.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	os.Mkdir(disk, 0o700)
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("cannot mount a tmpfs:", err)
	}
	t.Cleanup(func() { unix.Unmount(disk, 0) })
	path := filepath.Join(disk, "0.log")
	l, err := Create(filepath.Join(dir, "carry"), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, w := pipe(t)
	done := make(chan error, 1)
	go func() { done <- l.Drain(Stdout, r) }()
	for i := range 5000 {
		fmt.Fprintf(w, "line %d\n", i)
	}
	settle(t, l, r)
	st := l.Status()
	full := parse(t, read(t, path))
	if st.LostLines == 0 || st.Error == "" || int(st.LostLines)+len(full) != 5000 {
		t.Fatalf("%d lines in the log, status %+v", len(full), st)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(w, "space again")
	w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	after := parse(t, read(t, path))
	if len(after) != 2 || !strings.Contains(after[0].text, fmt.Sprintf("%d log lines lost", st.LostLines)) || after[1].text != "space again" {
		t.Fatalf("after there was space: %+v", after)
	}
	if s := l.Status(); s.Error != "" || s.LostLines != st.LostLines {
		t.Fatalf("status %+v", s)
	}
}

// settle waits until the pipe is empty and its content was dealt with.
func settle(t testing.TB, l *Log, r *os.File) {
	t.Helper()
	raw, _ := r.SyscallConn()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		n := -1
		raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
		l.mu.Lock()
		st := l.carry.state(Stdout)
		l.mu.Unlock()
		if n == 0 && st.intent == 0 && st.start == st.end {
			return
		}
	}
	t.Fatal("the pipe was not drained")
}

// TestFullTmpfs keeps the carry file where nothing is left but its first pages.
func TestFullTmpfs(t *testing.T) {
	dir := t.TempDir()
	small := filepath.Join(dir, "run")
	os.Mkdir(small, 0o700)
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=8k"); err != nil {
		t.Skip("cannot mount a tmpfs:", err)
	}
	t.Cleanup(func() { unix.Unmount(small, 0) })
	path := filepath.Join(dir, "0.log")
	l, err := Create(filepath.Join(small, "carry"), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, w := pipe(t)
	done := make(chan error, 1)
	go func() { done <- l.Drain(Stdout, r) }()
	want := strings.Repeat(strings.Repeat("y", 9999)+"\nshort\n", 20)
	w.WriteString(want)
	w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if content(parse(t, read(t, path)), "stdout") != want {
		t.Fatal("content changed")
	}
}

func TestTrimGivesMemoryBack(t *testing.T) {
	dir := t.TempDir()
	l, err := Create(filepath.Join(dir, "carry"), filepath.Join(dir, "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	blocks := func() int64 {
		var st unix.Stat_t
		unix.Stat(filepath.Join(dir, "carry"), &st)
		return st.Blocks
	}
	before := blocks()
	r, w := pipe(t)
	go l.Drain(Stdout, r)
	w.WriteString(strings.Repeat("z", 60000) + "\n")
	settle(t, l, r)
	if blocks() <= before {
		t.Fatal("the test needs a burst")
	}
	l.Trim()
	if got := blocks(); got != before {
		t.Fatalf("%d blocks, %d before the burst", got, before)
	}
	w.WriteString(strings.Repeat("z", 60000) + "\n")
	settle(t, l, r)
	if got := content(parse(t, read(t, filepath.Join(dir, "0.log"))), "stdout"); len(got) != 120002 {
		t.Fatalf("%d bytes", len(got))
	}
}

// TestCrashAtEveryStep stops the writer at each of its steps, opens what it
// left with a new one, and wants every line exactly once.
func TestCrashAtEveryStep(t *testing.T) {
	steps := []string{"intend", "read", "counted", "recorded", "half", "written", "consumed", "moved"}
	for _, step := range steps {
		for _, rotate := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s rotated=%v", step, rotate), func(t *testing.T) { crash(t, step, rotate, 1) })
		}
	}
	for i := range 20 {
		t.Run(fmt.Sprintf("seed %d", i), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			crash(t, steps[rng.IntN(len(steps))], rng.IntN(3) == 0, uint64(i))
		})
	}
}

func crash(t *testing.T, step string, rotate bool, seed uint64) {
	dir := t.TempDir()
	carry, path := filepath.Join(dir, "carry"), filepath.Join(dir, "0.log")
	l, err := Create(carry, path)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	r, w := pipe(t)
	var want bytes.Buffer
	written := make(chan struct{})
	go func() {
		defer close(written)
		rng := rand.New(rand.NewPCG(seed, 3))
		for i := range 400 {
			s := fmt.Sprintf("%d %s\n", i, strings.Repeat("\x00a", rng.IntN(1200)))
			if i%97 == 0 {
				s = fmt.Sprintf("%d %s\n", i, strings.Repeat("b", 40000))
			}
			want.WriteString(s)
			w.WriteString(s)
		}
		want.WriteString("end")
		w.WriteString("end")
		w.Close()
	}()
	crashes := 0
	var files []string
	for {
		if crashes < 10 {
			// Let some batches through, so that crashes find different states.
			fault.Set("logs."+step, fmt.Sprintf("%d*sleep(0s)->1*error(crash)->off", 1+rng.IntN(6)))
		} else {
			fault.Set("logs."+step, "")
		}
		err := l.Drain(Stdout, r)
		if err == nil {
			break
		}
		if !errors.Is(err, fault.ErrInjected) {
			t.Fatal(err)
		}
		crashes++
		// l is not closed: a killed process does not close anything either.
		fault.Set("logs."+step, "")
		if rotate && crashes%2 == 0 {
			old := fmt.Sprintf("%s.%d", path, crashes)
			if err := os.Rename(path, old); err != nil {
				t.Fatal(err)
			}
			files = append(files, old)
		}
		dead := l
		if l, err = Recover(carry, path); err != nil {
			t.Fatal("recover:", err)
		}
		dead.Close()
	}
	<-written
	fault.Set("logs."+step, "")
	l.Close()
	if crashes == 0 {
		t.Fatal("the step was never reached")
	}
	var lines []line
	for _, f := range append(files, path) {
		lines = append(lines, parse(t, read(t, f))...)
	}
	got := content(lines, "stdout")
	if got != want.String() {
		t.Fatalf("after %d crashes: got %d bytes, want %d; first difference at %d", crashes, len(got), want.Len(), diff(got, want.String()))
	}
}

func diff(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestRecoverTakesAnything(t *testing.T) {
	dir := t.TempDir()
	carry, path := filepath.Join(dir, "carry"), filepath.Join(dir, "0.log")
	for name, tc := range map[string]struct {
		make func()
		lost bool
	}{
		"no carry file":  {func() { os.Remove(carry) }, true},
		"empty":          {func() { os.WriteFile(carry, nil, 0o600) }, true},
		"foreign":        {func() { os.WriteFile(carry, bytes.Repeat([]byte{0xff}, carrySize), 0o600) }, true},
		"fresh":          {func() { l, _ := Create(carry, path); l.Close() }, false},
		"log not usable": {func() { l, _ := Create(carry, path); l.Close(); os.Remove(path); os.Mkdir(path, 0o700) }, true},
	} {
		os.RemoveAll(path)
		tc.make()
		l, err := Recover(carry, path)
		if l == nil || (err != nil) != tc.lost {
			t.Errorf("%s: %v, %v", name, l, err)
			continue
		}
		r, w := pipe(t)
		w.WriteString("after\n")
		w.Close()
		if err := l.Drain(Stdout, r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		l.Close()
	}
}

// FuzzRecover: whatever the header says, recovery neither crashes nor writes
// outside of its areas.
func FuzzRecover(f *testing.F) {
	f.Add([]byte{}, []byte("data\n"))
	f.Add(bytes.Repeat([]byte{1}, 120), []byte("x"))
	dir := f.TempDir()
	carry, path := filepath.Join(dir, "carry"), filepath.Join(dir, "0.log")
	f.Fuzz(func(t *testing.T, head, data []byte) {
		b := make([]byte, carrySize)
		copy(b[8:headerSize], head)
		copy(b[headerSize:], data)
		copy(b, "BRTLOG1\x01")
		os.WriteFile(carry, b, 0o600)
		os.Remove(path)
		if l, _ := Recover(carry, path); l != nil {
			l.Close()
		}
	})
}

func BenchmarkDrain100ByteLines(b *testing.B) {
	dir := b.TempDir()
	l, err := Create(filepath.Join(dir, "carry"), filepath.Join(dir, "0.log"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	r, w := pipe(b)
	unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 16<<10)
	chunk := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 160)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			w.Write(chunk)
		}
		w.Close()
	}()
	if err := l.Drain(Stdout, r); err != nil {
		b.Fatal(err)
	}
}
