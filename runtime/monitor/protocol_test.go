package monitor

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berth-cri/berth/atomicfile"
)

func itoa(i int) string { return strconv.Itoa(i) }

func readJSON(path string, v any) error { return atomicfile.ReadJSON(path, v) }

// raw is a client that says what it likes.
func raw(t *testing.T, n *node) *conn {
	t.Helper()
	s, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: n.options().Socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.SetReadDeadline(time.Now().Add(patience))
	return newConn(s)
}

func ask(t *testing.T, c *conn, message string, files ...*os.File) (envelope, error) {
	t.Helper()
	if err := c.send([]byte(message), files, time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	e, got, err := c.receive()
	closeAll(got)
	if err != nil {
		t.Fatal(err)
	}
	if e.Error != nil {
		return e, e.Error.err()
	}
	return e, nil
}

func TestBadMessagesAreAnswered(t *testing.T) {
	n := newNode(t)
	pid, _ := n.sup.Monitor()
	before := descriptors(t, pid)
	c := raw(t, n)
	f, _ := os.Open("/dev/null")
	defer f.Close()
	if _, err := ask(t, c, `{"id":1,"op":"list","body":{}}`); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("before hello: %v", err)
	}
	if _, err := ask(t, c, `{"id":2,"op":"hello","body":{"protocol":1}}`); err != nil {
		t.Errorf("hello: %v", err)
	}
	many := make([]*os.File, maxFiles+5)
	for i := range many {
		many[i] = f
	}
	for name, tc := range map[string]struct {
		message string
		files   []*os.File
		is      func(error) bool
	}{
		"not JSON":                {"nonsense", nil, errdefs.IsInvalidArgument},
		"wrong type":              {`{"id":"x"}`, nil, errdefs.IsInvalidArgument},
		"an array":                {`[]`, nil, errdefs.IsInvalidArgument},
		"unknown operation":       {`{"id":3,"op":"dance"}`, nil, errdefs.IsNotImplemented},
		"no body":                 {`{"id":3,"op":"start"}`, nil, errdefs.IsInvalidArgument},
		"body of a wrong type":    {`{"id":3,"op":"start","body":{"id":7}}`, nil, errdefs.IsInvalidArgument},
		"file without a name":     {`{"id":3,"op":"list","body":{}}`, []*os.File{f}, errdefs.IsInvalidArgument},
		"name without a file":     {`{"id":3,"op":"list","body":{},"files":["plan"]}`, nil, errdefs.IsInvalidArgument},
		"file nobody wants":       {`{"id":3,"op":"forget","body":{"id":"x"},"files":["plan"]}`, []*os.File{f}, errdefs.IsNotFound},
		"too many files":          {`{"id":3,"op":"list","body":{}}`, many, errdefs.IsInvalidArgument},
		"too long":                {`{"id":3,"op":"list","body":{"after":"` + strings.Repeat("x", maxMessage) + `"}}`, nil, errdefs.IsInvalidArgument},
		"plan that is not a file": {`{"id":3,"op":"start","body":{"id":"x","dir":"/nowhere"},"files":["plan"]}`, []*os.File{f}, func(err error) bool { return err != nil }},
	} {
		if _, err := ask(t, c, tc.message, tc.files...); !tc.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if e, err := ask(t, c, `{"id":4,"op":"list","body":{}}`); err != nil || e.ID != 4 {
		t.Errorf("after all that: %+v %v", e, err)
	}
	c.sock.Close()
	if now, _ := n.sup.Monitor(); now != pid {
		t.Error("the monitor died")
	}
	until(t, "no descriptor left", func() bool { return descriptors(t, pid) == before })
}

func descriptors(t testing.TB, pid int) int {
	t.Helper()
	d, err := os.ReadDir(filepath.Join("/proc", itoa(pid), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func TestOtherProtocolIsAClearError(t *testing.T) {
	n := newNode(t)
	c := raw(t, n)
	e, err := ask(t, c, `{"id":1,"op":"hello","body":{"protocol":999,"build":"future"}}`)
	var h hello
	if err != nil || json.Unmarshal(e.Body, &h) != nil || h.Protocol != Protocol || h.Build != "test" || h.Pid == 0 {
		t.Fatalf("hello: %+v %v", h, err)
	}
	_, err = ask(t, c, `{"id":2,"op":"list","body":{}}`)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "999") {
		t.Fatalf("list: %v", err)
	}
}

// TestDescriptorsAreClosed: nothing is left in the monitor of a container or an
// exec that has been.
func TestDescriptorsAreClosed(t *testing.T) {
	n := newNode(t)
	n.start("c", nil, "sleep", "1000")
	pid, _ := n.sup.Monitor()
	n.command(nil, "true")
	before := descriptors(t, pid)
	for i := range 20 {
		id := itoa(i)
		n.start(id, func(r *StartRequest) { r.Stdin, r.Prepared.Terminal = i%3 == 0, i%2 == 0 }, "true")
		n.wait(id)
		if err := n.sup.Forget(background, id); err != nil {
			t.Fatal(err)
		}
		n.command(nil, "true")
		b := n.prepare("bad"+id, nil)
		b.req.PlanFile = plan(t, "/no/such")
		if _, err := n.sup.Start(background, b.req); err == nil {
			t.Fatal("started nothing")
		}
	}
	until(t, "no descriptor more than before", func() bool { return descriptors(t, pid) <= before })
}

// TestOrphansAreReaped: a process whose parent died comes to the monitor, is
// reaped there, and no known child's status is taken by that.
func TestOrphansAreReaped(t *testing.T) {
	n := newNode(t)
	pid, _ := n.sup.Monitor()
	for i := range 10 {
		id := itoa(i)
		n.start(id, nil, "sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.0$i & ) ; done; exit "+id)
	}
	for i := range 10 {
		if x := n.wait(itoa(i)); x.Code != i || !x.Known {
			t.Errorf("%d: %+v", i, x)
		}
	}
	until(t, "no children but the store", func() bool {
		out, _ := exec.Command("ps", "-o", "pid=", "--ppid", itoa(pid)).Output()
		return string(bytes.TrimSpace(out)) == itoa(storePid(n))
	})
}

func TestListPages(t *testing.T) {
	n := newNode(t)
	for i := range 2*listPage + 3 {
		n.start(itoa(1000+i), nil, "true")
	}
	list, err := n.sup.List(background)
	if err != nil || len(list) != 2*listPage+3 || list[0].ID != "1000" || list[len(list)-1].ID != itoa(1000+2*listPage+2) {
		t.Fatalf("%d %v", len(list), err)
	}
}

// TestSmallDependencies keeps the monitor small.
func TestSmallDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../../cmd/berth-monitor").Output()
	if err != nil {
		t.Skip("no go command:", err)
	}
	for dep := range strings.Lines(string(out)) {
		for _, bad := range []string{"google.golang.org/", "k8s.io/", "containernetworking", "go-containerregistry", "net/http", "spf13", "prometheus"} {
			if strings.Contains(dep, bad) {
				t.Errorf("berth-monitor depends on %s", dep)
			}
		}
	}
}

// raceDetector is set by race_test.go.
var raceDetector bool

// TestMemory holds the ceiling of the design: an idle monitor with 500 containers
// stays under 40 MiB PSS.
func TestMemory(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("starts 500 processes, and the race detector needs memory of its own")
	}
	n := newNode(t)
	pid, _ := n.sup.Monitor()
	base := pss(t, pid)
	const count = 500
	for i := range count {
		// A burst at the start, then a line on each stream, then silence.
		n.start(itoa(1000+i), nil, "sh", "-c", "seq 1 200; echo err >&2; exec sleep 1000")
	}
	for i := range count {
		n.mu.Lock()
		log := n.boxes[itoa(1000+i)].req.Log
		n.mu.Unlock()
		n.until("both lines", func() bool {
			return output(t, log, "stderr") != "" && strings.HasSuffix(output(t, log, "stdout"), "200\n")
		})
	}
	got := pss(t, pid)
	t.Logf("PSS %d KiB, %d KiB with no container: %d KiB each; %d descriptors", got, base, (got-base)/count, descriptors(t, pid))
	if got > 40<<10 {
		t.Errorf("PSS %d KiB with %d containers", got, count)
	}
}

func pss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "smaps_rollup"))
	if err != nil {
		t.Skip(err)
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 1 && f[0] == "Pss:" {
			k, _ := strconv.Atoi(f[1])
			return k
		}
	}
	t.Skip("no PSS here")
	return 0
}

// TestIdle: a monitor with nothing to do uses no CPU that a clock could see.
func TestIdle(t *testing.T) {
	n := newNode(t)
	for i := range 20 {
		n.start(itoa(i), nil, "sleep", "1000")
	}
	pid, _ := n.sup.Monitor()
	var last uint64
	until(t, "two looks without a tick between them", func() bool {
		b, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "stat"))
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')'):]))
		u, _ := strconv.ParseUint(f[12], 10, 64)
		s, _ := strconv.ParseUint(f[13], 10, 64)
		same := last == u+s
		last = u + s
		if !same {
			time.Sleep(500 * time.Millisecond)
		}
		return same
	})
}
