package cgroup

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

func TestSlicePath(t *testing.T) {
	for _, tt := range []struct{ parent, want string }{
		{"berth.slice", "/berth.slice"},
		{"/berth.slice", "/berth.slice"},
		{"kubepods-burstable-pod1_2.slice", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"},
		{"/kubepods.slice/kubepods-pod1.slice", "/kubepods.slice/kubepods-pod1.slice"},
		{"kubepods.slice/kubepods-pod1.slice/", "/kubepods.slice/kubepods-pod1.slice"},
		{`a\x2db.slice`, `/a\x2db.slice`},
	} {
		if got, err := slicePath(tt.parent); err != nil || got != tt.want {
			t.Errorf("%q: %q %v", tt.parent, got, err)
		}
	}
	for _, tt := range []struct{ parent, says string }{
		{"/kubepods/burstable/pod1", "not a systemd slice"},
		{"system.slice:berth:abc", "not a systemd slice"},
		{"", "not a systemd slice"},
		{".slice", "not the name"},
		{"-.slice", "root slice"},
		{"a--b.slice", "not the name"},
		{"-a.slice", "not the name"},
		{"a-.slice", "not the name"},
		{"a b.slice", "not the name"},
		{"a\n.slice", "not the name"},
		{"../a.slice", "not where"},
		{"/x/a.slice", "not where"},
		{"/kubepods.slice/other.slice", "not where systemd has that slice, which is /other.slice"},
		{strings.Repeat("x", 250) + ".slice", "too long"},
	} {
		if got, err := slicePath(tt.parent); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %q %v", tt.parent, got, err)
		}
	}
}

func TestPathsUnderSystemd(t *testing.T) {
	m, err := newManager([]hierarchy{{mount: "/fake", v2: true}}, Options{Driver: "systemd"})
	if err != nil {
		t.Fatal(err)
	}
	if m.Driver() != Systemd {
		t.Error(m.Driver())
	}
	for _, tt := range []struct{ parent, above, path string }{
		{"", "/berth.slice", "/berth.slice/berth-p.scope/c"},
		{"a-b.slice", "/a.slice/a-b.slice", "/a.slice/a-b.slice/berth-p.scope/c"},
	} {
		if got, err := m.Parent(tt.parent); err != nil || got != tt.above {
			t.Errorf("%q: %q %v", tt.parent, got, err)
		}
		if got, err := m.Path(tt.parent, "p", "c"); err != nil || got != tt.path {
			t.Errorf("%q: %q %v", tt.parent, got, err)
		}
	}
	if _, err := m.Path("/kubepods/pod1", "p", "c"); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	// A container of before the driver was changed.
	if _, err := m.Create(t.Context(), "/kubepods/pod1/c", nil); !errdefs.IsFailedPrecondition(err) {
		t.Error(err)
	}
	for name, o := range map[string]Options{
		"a path as the default parent": {Driver: "systemd", Parent: "/berth"},
		"a slice for cgroupfs":         {Driver: "cgroupfs", Parent: "berth.slice"},
	} {
		if _, err := newManager([]hierarchy{{mount: "/fake", v2: true}}, o); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	v1 := []hierarchy{{mount: "/fake/pids", controllers: []string{"pids"}}}
	if _, err := newManager(v1, Options{Driver: "systemd"}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("on v1: %v", err)
	}
}

func TestHolder(t *testing.T) {
	f, err := elf.NewFile(bytes.NewReader(linux.TinyProgram(holderCode)))
	if err != nil || f.Type != elf.ET_EXEC {
		t.Fatal(err)
	}
	h, err := startHolder()
	if err != nil {
		t.Fatal(err)
	}
	stat := func() string {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", h.pid()))
		s, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.pid()))
		return string(b) + " " + string(s)
	}
	p := h.stay()
	eventually(t, func() error { // it sleeps, without a descriptor
		left, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid))
		if err != nil || len(left) > 0 {
			return fmt.Errorf("%v %v", left, err)
		}
		return nil
	})
	if s := stat(); !strings.Contains(s, ") S ") {
		t.Errorf("it does not sleep: %s", s)
	}
	if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.Pid)); len(b) > 0 {
		if pages, _ := strconv.Atoi(strings.Fields(string(b))[1]); pages > 8 {
			t.Errorf("%d pages", pages)
		}
	}
	p.Signal(unix.SIGTERM)
	if st, err := p.Wait(); err != nil || st.Exited() {
		t.Errorf("ended with %v %v", st, err)
	}

	// The daemon dies before the scope is there.
	h, err = startHolder()
	if err != nil {
		t.Fatal(err)
	}
	h.line.Close()
	if st, err := h.process.Wait(); err != nil || st.ExitCode() != 0 {
		t.Errorf("without a daemon: %v %v", st, err)
	}
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for range 2000 {
		if err = f(); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error(err)
}

// manager is a stand-in for PID 1: it has the calls that Berth makes, and makes
// a directory for each scope below a cgroup2 of the test, or fails as told.
type manager struct {
	t       *testing.T
	address string
	dir     string // where slices are
	next    atomic.Int32
	calls   atomic.Int32
	busy    atomic.Int32
	most    atomic.Int32

	mu    sync.Mutex
	lines []net.Conn
	fail  []string // for each call: an error's name, a job's result, "hang up", "hang up late", or ""
	props map[string]dbus.Variant
	pause time.Duration
}

func fakeSystemd(t *testing.T, dir string) *manager {
	socket := filepath.Join(t.TempDir(), "private")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t: t, address: "unix:path=" + socket, dir: dir}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.mu.Lock()
			m.lines = append(m.lines, c)
			m.mu.Unlock()
			wg.Go(func() { m.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); m.hangUp(); wg.Wait() })
	return m
}

func (m *manager) hangUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.lines {
		c.Close()
	}
	m.lines = nil
}

// serve speaks the server's side: SASL EXTERNAL, then messages.
func (m *manager) serve(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch line = strings.Trim(line, "\x00\r\n"); {
		case line == "AUTH":
			fmt.Fprintf(c, "REJECTED EXTERNAL\r\n")
		case line == "AUTH EXTERNAL": // the socket says who it is
			fmt.Fprintf(c, "DATA\r\n")
		case line == "DATA":
			fmt.Fprintf(c, "OK 0123456789abcdef\r\n")
		case line == "BEGIN":
			m.messages(c, r)
			return
		default:
			fmt.Fprintf(c, "ERROR\r\n")
		}
	}
}

func (m *manager) messages(c net.Conn, r *bufio.Reader) {
	var writing sync.Mutex
	for {
		call, err := dbus.DecodeMessage(r)
		if err != nil {
			return
		}
		if call.Type != dbus.TypeMethodCall {
			continue
		}
		answer := func(kind dbus.Type, name string, body ...any) {
			reply := &dbus.Message{Type: kind, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()),
			}}
			if name != "" {
				reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant(name)
			}
			if len(body) > 0 {
				reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
			}
			m.send(c, &writing, reply)
		}
		if call.Headers[dbus.FieldMember].Value() != "StartTransientUnit" {
			answer(dbus.TypeMethodReply, "")
			continue
		}
		m.start(c, call, answer)
	}
}

// serials of messages are nobody's business here, but 0 is not one.
func (m *manager) send(c net.Conn, mu *sync.Mutex, msg *dbus.Message) {
	var b bytes.Buffer
	if err := msg.EncodeTo(&b, binary.LittleEndian); err != nil {
		m.t.Errorf("encode: %v", err)
		return
	}
	raw := b.Bytes()
	binary.LittleEndian.PutUint32(raw[8:], uint32(m.next.Add(1)))
	mu.Lock()
	defer mu.Unlock()
	c.Write(raw)
}

func (m *manager) start(c net.Conn, call *dbus.Message, answer func(dbus.Type, string, ...any)) {
	m.calls.Add(1)
	m.mu.Lock()
	how := ""
	if len(m.fail) > 0 {
		how, m.fail = m.fail[0], m.fail[1:]
	}
	m.mu.Unlock()
	if how == "hang up" {
		go m.hangUp()
		return
	}
	if strings.HasPrefix(how, "org.") {
		answer(dbus.TypeError, how, "as told")
		return
	}
	unit := call.Body[0].(string)
	props := map[string]dbus.Variant{}
	for _, p := range call.Body[2].([][]any) {
		props[p[0].(string)] = p[1].(dbus.Variant)
	}
	m.mu.Lock()
	m.props = props
	m.mu.Unlock()
	if how == "" || how == "hang up late" {
		m.make(unit, props)
	}
	if how == "hang up late" {
		go m.hangUp()
		return
	}
	result := "done"
	if how != "" {
		result = how
	}
	now := m.busy.Add(1)
	for old := m.most.Load(); now > old && !m.most.CompareAndSwap(old, now); old = m.most.Load() {
	}
	id := uint32(m.next.Add(1))
	job := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", id))
	answer(dbus.TypeMethodReply, "", job)
	time.AfterFunc(m.pause, func() {
		m.busy.Add(-1)
		m.tell(id, job, unit, result)
	})
}

// tell sends the signal to everybody, as systemd's own socket does.
func (m *manager) tell(id uint32, job dbus.ObjectPath, unit, result string) {
	body := []any{id, job, unit, result}
	msg := &dbus.Message{Type: dbus.TypeSignal, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:      dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")),
		dbus.FieldInterface: dbus.MakeVariant("org.freedesktop.systemd1.Manager"),
		dbus.FieldMember:    dbus.MakeVariant("JobRemoved"),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
	}}
	m.mu.Lock()
	defer m.mu.Unlock()
	var own sync.Mutex
	for _, c := range m.lines {
		m.send(c, &own, msg)
	}
}

// make puts the processes where systemd would.
func (m *manager) make(unit string, props map[string]dbus.Variant) {
	at, err := slicePath(props["Slice"].Value().(string))
	if err != nil {
		m.t.Error(err)
		return
	}
	dir := m.dir + at + "/" + unit
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Error(err)
	}
	for _, pid := range props["PIDs"].Value().([]uint32) {
		if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(int(pid))), 0o644); err != nil {
			m.t.Error(err)
		}
	}
}

// scoped is a manager with the systemd driver on the real cgroup2, and a
// stand-in for systemd.
func scoped(t *testing.T) (*Manager, *manager) {
	t.Helper()
	h := onlyTracking(t)
	// A slice at the top, as any other; removed by the test, not by onlyTracking.
	slice := fmt.Sprintf("berthtest%dx%s.slice", os.Getpid(), strings.ToLower(strings.NewReplacer("_", "", "/", "", "-", "").Replace(t.Name())))
	m, err := newManager([]hierarchy{h.trees[0]}, Options{Driver: "systemd", Parent: slice})
	if err != nil {
		t.Fatal(err)
	}
	fake := fakeSystemd(t, m.trees[0].mount)
	m.scopes.bus.address = fake.address
	t.Cleanup(func() {
		if err := removeTree(context.Background(), m.trees[0].dir(m.parent)); err != nil {
			t.Errorf("left in the slice: %v", err)
		}
	})
	return m, fake
}

func TestScopeOfAPod(t *testing.T) {
	m, fake := scoped(t)
	var made []*Cgroup
	for _, id := range []string{"one", "two"} {
		p, err := m.Path("", "pod1", id)
		if err != nil {
			t.Fatal(err)
		}
		c, err := m.Create(t.Context(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, c)
	}
	if n := fake.calls.Load(); n != 1 {
		t.Errorf("%d calls for one pod", n)
	}
	for name, want := range map[string]any{
		"Slice": filepath.Base(m.parent), "Delegate": true, "TasksMax": ^uint64(0), "DefaultDependencies": false,
		"CollectMode": "inactive-or-failed", "Description": "Berth pod pod1",
	} {
		if got := fake.props[name].Value(); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	scope := m.trees[0].dir(m.parent + "/berth-pod1.scope")
	if b, err := os.ReadFile(scope + "/cgroup.procs"); err != nil || len(b) > 0 {
		t.Errorf("processes in the scope itself: %q %v", b, err)
	}
	// A process holds the scope; it is in no container.
	if pids, err := made[0].Pids(); err != nil || len(pids) != 0 {
		t.Error(pids, err)
	}
	hold := m.Load(m.parent + "/berth-pod1.scope/hold")
	if pids, err := hold.Pids(); err != nil || len(pids) != 1 {
		t.Error(pids, err)
	}
	cmd, _ := process(t, "sleep")
	join(t, made[0], cmd.Process.Pid)
	if err := m.RemovePod(t.Context(), "", "pod1"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("removed around a container: %v", err)
	}
	end(t, made[0])
	end(t, made[1])
	for range 2 {
		if err := m.RemovePod(t.Context(), "", "pod1"); err != nil {
			t.Error(err)
		}
	}
	if some, _ := m.Load(m.parent + "/berth-pod1.scope").Populated(); some || hold.Exists() {
		t.Error("the holder is still there")
	}
}

func TestContainersOfAPodShareTheWork(t *testing.T) {
	m, fake := scoped(t)
	fake.pause = 20 * time.Millisecond
	var wg sync.WaitGroup
	for i := range 40 { // ten pods
		wg.Go(func() {
			p, _ := m.Path("", fmt.Sprint("pod", i%10), fmt.Sprint("c", i))
			if _, err := m.Create(t.Context(), p, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := fake.calls.Load(); n != 10 {
		t.Errorf("%d calls for ten pods", n)
	}
	if n := fake.most.Load(); n > busJobs {
		t.Errorf("%d jobs at once", n)
	}
	if n := len(fake.lines); n != 2 {
		t.Errorf("%d connections; one for calls and one for signals are enough", n)
	}
	for i := range 40 {
		p, _ := m.Path("", fmt.Sprint("pod", i%10), fmt.Sprint("c", i))
		end(t, m.Load(p))
	}
	for i := range 10 {
		if err := m.RemovePod(t.Context(), "", fmt.Sprint("pod", i)); err != nil {
			t.Error(err)
		}
	}
}

func TestSystemdInTrouble(t *testing.T) {
	for name, tt := range map[string]struct {
		fail  []string
		calls int32
		err   func(error) bool // nil: it works in the end
	}{
		"goes away during the call":      {[]string{"hang up"}, 2, nil},
		"goes away after the work":       {[]string{"hang up late"}, 1, nil},
		"does not answer in time":        {[]string{"org.freedesktop.DBus.Error.NoReply"}, 2, nil},
		"is full":                        {[]string{"org.freedesktop.DBus.Error.LimitsExceeded", "org.freedesktop.DBus.Error.LimitsExceeded"}, 3, nil},
		"has the unit of a failed start": {[]string{"org.freedesktop.systemd1.UnitExists"}, 2, nil},
		"is stopping the slice":          {[]string{"org.freedesktop.systemd1.TransactionIsDestructive"}, 2, nil},
		"cancels the job":                {[]string{"canceled"}, 2, nil},
		"goes away and does not come":    {[]string{"hang up", "hang up", "hang up", "hang up", "hang up"}, busTries, errdefs.IsUnavailable},
		"refuses": {[]string{"org.freedesktop.DBus.Error.AccessDenied"}, 1, func(err error) bool {
			e := dbus.Error{}
			return errors.As(err, &e) && e.Name == "org.freedesktop.DBus.Error.AccessDenied"
		}},
		"says that a property is unknown": {[]string{"org.freedesktop.DBus.Error.PropertyReadOnly"}, 1, func(err error) bool { return err != nil }},
	} {
		t.Run(strings.ReplaceAll(name, " ", ""), func(t *testing.T) {
			m, fake := scoped(t)
			fake.fail = tt.fail
			p, _ := m.Path("", "p", "c")
			c, err := m.Create(t.Context(), p, nil)
			if n := fake.calls.Load(); n != tt.calls {
				t.Errorf("%s: %d calls", name, n)
			}
			if tt.err != nil {
				if !tt.err(err) {
					t.Errorf("%s: %v", name, err)
				}
				if len(m.scopes.holders) > 0 {
					t.Error("a holder without a scope")
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			end(t, c)
			if err := m.RemovePod(t.Context(), "", "p"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNoSystemd(t *testing.T) {
	m, _ := scoped(t)
	m.scopes.bus.address = "unix:path=" + t.TempDir() + "/none"
	p, _ := m.Path("", "p", "c")
	if _, err := m.Create(t.Context(), p, nil); !errdefs.IsUnavailable(err) || !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
}

// The daemon was killed between systemd's answer and its next step.
func TestHolderThatWasNotMoved(t *testing.T) {
	m, _ := scoped(t)
	scope := m.trees[0].dir(m.parent + "/berth-p.scope")
	if err := os.MkdirAll(scope, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd, _ := process(t, "sleep")
	if err := os.WriteFile(scope+"/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	p, _ := m.Path("", "p", "c")
	c, err := m.Create(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(scope + "/cgroup.procs"); err != nil || len(b) > 0 {
		t.Errorf("still in the scope itself: %q %v", b, err)
	}
	end(t, c)
	if err := m.RemovePod(t.Context(), "", "p"); err != nil {
		t.Error(err)
	}
	cmd.Wait()
}

// The holder was killed, and the scope has gone with it.
func TestScopeIsMadeAgain(t *testing.T) {
	m, fake := scoped(t)
	p, _ := m.Path("", "p", "c")
	c, err := m.Create(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	end(t, c)
	scope := m.parent + "/berth-p.scope"
	first := m.scopes.holders[scope]
	if err := m.Load(scope + "/hold").Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(t.Context(), m.trees[0].dir(scope)); err != nil {
		t.Fatal(err)
	}
	if c, err = m.Create(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	if n := fake.calls.Load(); n != 2 {
		t.Errorf("%d calls", n)
	}
	if exists := unix.Kill(first.Pid, 0); exists != unix.ESRCH {
		t.Errorf("the dead holder was not waited for: %v", exists)
	}
	end(t, c)
	if err := m.RemovePod(t.Context(), "", "p"); err != nil {
		t.Error(err)
	}
}
