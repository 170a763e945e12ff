package monitor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/monitor/logs"
	"github.com/berth-cri/berth/runtime/oci"
)

// attached is a client.
type attached struct {
	t      *testing.T
	att    *Attachment
	mu     sync.Mutex
	out    bytes.Buffer
	errs   bytes.Buffer
	done   chan error
	cancel context.CancelFunc
}

type into struct {
	a *attached
	b *bytes.Buffer
}

func (w into) Write(p []byte) (int, error) {
	w.a.mu.Lock()
	defer w.a.mu.Unlock()
	return w.b.Write(p)
}

func (a *attached) stdout() string { a.mu.Lock(); defer a.mu.Unlock(); return a.out.String() }
func (a *attached) stderr() string { a.mu.Lock(); defer a.mu.Unlock(); return a.errs.String() }

// ended waits for the end of Copy.
func (a *attached) ended() error {
	a.t.Helper()
	select {
	case err := <-a.done:
		return err
	case <-time.After(patience):
		a.t.Fatal("still attached")
		return nil
	}
}

var attachments int

func (n *node) attach(t *testing.T, id string) *attached {
	t.Helper()
	attachments++
	ctx, cancel := context.WithCancel(background)
	a := &attached{t: t, done: make(chan error, 1), cancel: cancel}
	var err error
	if a.att, err = n.sup.Attach(ctx, id, fmt.Sprint("a", attachments), n.state, true, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	go func() { a.done <- a.att.Copy(ctx, into{a, &a.out}, into{a, &a.errs}) }()
	return a
}

func (n *node) logged(id string) string {
	b, _ := os.ReadFile(n.boxes[id].req.Log)
	return string(b)
}

// spoken makes a container that repeats each line of its input to both outputs,
// and a function that gives it one.
func (n *node) spoken(id string) (say func(string)) {
	n.t.Helper()
	b := n.start(id, func(r *StartRequest) { r.Stdin = true }, "sh", "-c",
		`while read x; do test "$x" = quit && exit 7; echo "out $x"; echo "err $x" >&2; done`)
	return func(line string) {
		n.t.Helper()
		if _, err := b.keep.Stdin.WriteString(line + "\n"); err != nil {
			n.t.Fatal(err)
		}
	}
}

func TestAttach(t *testing.T) {
	n := newNode(t)
	say := n.spoken("c")
	say("before")
	n.until("the log has it", func() bool { return strings.Contains(n.logged("c"), "err before") })
	first, second := n.attach(t, "c"), n.attach(t, "c")
	say("one")
	for _, a := range []*attached{first, second} {
		n.until("the line arrives", func() bool { return a.stdout() == "out one\n" && a.stderr() == "err one\n" })
	}
	first.att.Detach()
	if err := first.ended(); err != nil {
		t.Errorf("detached: %v", err)
	}
	second.cancel()
	if err := second.ended(); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	last := n.attach(t, "c")
	say("two")
	say("quit")
	if err := last.ended(); err != nil || last.stdout() != "out two\n" || last.stderr() != "err two\n" {
		t.Errorf("at the exit: %q %q %v", last.stdout(), last.stderr(), err)
	}
	if x := n.wait("c"); x.Code != 7 {
		t.Errorf("%+v", x)
	}
	if first.stdout() != "out one\n" || second.stdout() != "out one\n" {
		t.Errorf("after the end: %q %q", first.stdout(), second.stdout())
	}
	if _, err := n.sup.Attach(background, "c", "x", n.state, true, false); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("to an exited container: %v", err)
	}
	if _, err := n.sup.Attach(background, "no", "x", n.state, true, false); !errdefs.IsNotFound(err) {
		t.Errorf("to none: %v", err)
	}
	pid, _ := n.sup.Monitor()
	n.until("the monitor holds no buffer", func() bool { return len(spools(pid)) == 0 })
	if left := spools(os.Getpid()); len(left) != 0 {
		t.Errorf("buffers left open: %v", left)
	}
}

// spools are the open files without a name of a process.
func spools(pid int) (found []string) {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.Contains(to, "/#") {
			found = append(found, to)
		}
	}
	return found
}

func TestAttachTerminal(t *testing.T) {
	n := newNode(t)
	b := n.start("c", func(r *StartRequest) { r.Prepared = oci.Prepared{Terminal: true} }, "sh", "-c", "read x; echo got $x; sleep 1000")
	a := n.attach(t, "c")
	b.started.Console.WriteString("word\n")
	n.until("the answer", func() bool { return a.stdout() == "word\r\ngot word\r\n" })
}

// TestAttachMuch: every byte arrives, and what was read takes no space.
func TestAttachMuch(t *testing.T) {
	const much = 50_000_000
	n := newNode(t)
	b := n.start("c", func(r *StartRequest) { r.Stdin, r.Log = true, "" }, "sh", "-c",
		"read x; yes 0123456789abcde | head -c 50000000")
	a, err := n.sup.Attach(background, "c", "much", n.state, true, false)
	if err != nil {
		t.Fatal(err)
	}
	got, want := sha256.New(), sha256.New()
	total, next := 0, 10<<20
	b.keep.Stdin.WriteString("go\n")
	err = a.Copy(background, writer(func(p []byte) (int, error) {
		total += len(p)
		if total > next { // all but what lies ahead of us has been given back
			next += 10 << 20
			ahead, _ := a.spools[logs.Stdout].file.Seek(0, io.SeekEnd)
			if took, err := linux.Allocated(a.spools[logs.Stdout].file); err != nil || took > ahead-int64(total)+(4<<20) {
				t.Errorf("the buffer takes %d bytes at %d of %d: %v", took, total, ahead, err)
			}
		}
		return got.Write(p)
	}), nil)
	if err != nil || total != much {
		t.Errorf("%d bytes, %v", total, err)
	}
	for range much / 16 {
		io.WriteString(want, "0123456789abcde\n")
	}
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Error("other bytes")
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestAttachSlow: who does not read is let go, and neither the container nor its
// log nor another client ever waits.
func TestAttachSlow(t *testing.T) {
	dir := t.TempDir()
	log, err := logs.Create(filepath.Join(dir, "carry"), filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r, wake, err := linux.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := linux.Tmpfile(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &container{log: log}
	a := &attachment{id: "slow", owner: &session{attached: map[string]*attachment{}}, wake: wake,
		spools: [2]*spool{{file: f, limit: 1 << 20}}}
	if !a.owner.attach(a) || !c.attach(a) {
		t.Fatal("not attached")
	}
	log.AddTap(a)
	outR, outW, _ := linux.Pipe()
	drained := make(chan error, 1)
	go func() { drained <- log.Drain(logs.Stdout, outR) }()
	line := strings.Repeat("x", 1023) + "\n"
	for range 3 << 10 {
		outW.WriteString(line)
	}
	outW.Close()
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(filepath.Join(dir, "log"))
	if got := bytes.Count(text, []byte("\n")); got != 3<<10 {
		t.Errorf("%d lines in the log", got)
	}
	b, readErr := io.ReadAll(r)
	if err := verdict(bytes.Trim(b, "\x00"), io.EOF); !errdefs.IsResourceExhausted(err) {
		t.Errorf("%q %v: %v", b, readErr, err)
	}
	if len(c.attached) != 0 || len(a.owner.attached) != 0 {
		t.Error("still there")
	}
}

// TestAttachAndDeath: the monitor's ends it with an error, the client's without
// a trace, and the container goes on.
func TestAttachAndDeath(t *testing.T) {
	n := newNode(t)
	say := n.spoken("c")
	a := n.attach(t, "c")
	say("one")
	n.until("the line arrives", func() bool { return a.stdout() == "out one\n" })
	n.killMonitor()
	if err := a.ended(); !errdefs.IsUnavailable(err) {
		t.Errorf("the monitor died: %v", err)
	}
	b := n.attach(t, "c")
	say("two")
	n.until("the line arrives", func() bool { return b.stdout() == "out two\n" })
	n.sup.Close()
	if err := b.ended(); err == nil {
		t.Error("the connection has ended without an error")
	}
	n.connect()
	d := n.attach(t, "c")
	say("three")
	n.until("the line arrives", func() bool { return d.stdout() == "out three\n" })
	pid, _ := n.sup.Monitor()
	if left := spools(pid); len(left) != 2 {
		t.Errorf("buffers in the monitor: %v", left)
	}
	unix.Kill(n.boxes["c"].started.Pid, unix.SIGKILL)
	if err := d.ended(); err != nil {
		t.Errorf("at the exit: %v", err)
	}
	for _, word := range []string{"one", "two", "three"} {
		if !strings.Contains(n.logged("c"), "out "+word) {
			t.Errorf("the log lacks %q:\n%s", word, n.logged("c"))
		}
	}
}
