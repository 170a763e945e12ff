package embedded

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/namespace"
)

// reaper starts the process 1 of a pod.
func reaper(t testing.TB) (*Process, []specs.LinuxNamespace) {
	t.Helper()
	_, join := pinned(t)
	var pins []Namespace
	for _, ns := range join {
		if ns.Path != "" {
			pins = append(pins, Namespace{Type: ns.Type, Path: ns.Path})
		}
	}
	p, err := CompileReaper(pins, Nobody, "", "")
	if err != nil {
		t.Fatal(err)
	}
	f := planFile(t, p)
	defer f.Close()
	proc, err := launcher.Start(t.Context(), Start{Prepared: p, Plan: f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		linux.PidfdSignal(proc.Pidfd, unix.SIGKILL)
		unix.Wait4(proc.Pid, nil, 0, nil) // unless the test did
		proc.Pidfd.Close()
	})
	join[1].Path = fmt.Sprintf("/proc/%d/ns/pid", proc.Pid)
	return proc, join
}

func TestReaperOfSharedPod(t *testing.T) {
	one, join := reaper(t)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", one.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Name:\tberth-reaper\n", "NSpid:\t" + fmt.Sprint(one.Pid) + "\t1\n", "CapBnd:\t0000000000000000\n",
		"CapPrm:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Threads:\t1\n", "Uid:\t65535\t65535",
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", one.Pid)); err != nil || bytes.Count(b, []byte("\n")) != 1 {
		t.Errorf("it holds mounts: %s %v", b, err)
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", one.Pid)); err == nil {
		t.Logf("%s", b[bytes.Index(b, []byte("Pss:")):bytes.Index(b, []byte("Pss_Dirty"))])
	}
	if same, err := namespace.Same(fmt.Sprintf("/proc/%d/ns/net", one.Pid), join[3].Path); err != nil || !same {
		t.Errorf("it is in another network: %v", err)
	}

	// Process 1 ends only when everything in its namespace was waited for, so the
	// containers are those of a subtest.
	t.Run("serves containers", func(t *testing.T) { useReaper(t, one, join) })
	if dead, err := linux.PidfdDead(one.Pidfd, 10*time.Second); err != nil || !dead {
		t.Fatalf("it ignores SIGTERM: %v", err)
	}
	if ws := wait(t, one); !ws.Exited() || ws.ExitStatus() != 0 {
		t.Errorf("it ended with %#x", ws)
	}
	spec := specOf("true")
	spec.Linux.Namespaces = join
	p, err := Compile(spec, overlayOf(t))
	if _, err := try(t, p, err); err == nil {
		t.Error("a container was started in a namespace that has ended")
	}
}

// useReaper runs two containers of the pod and then ends its process 1.
func useReaper(t *testing.T, one *Process, join []specs.LinuxNamespace) {
	defer linux.PidfdSignal(one.Pidfd, unix.SIGTERM)
	spec := script("for i in 1 2 3; do (sleep 0.1 &) ; done; exec sleep 1000")
	spec.Linux.Namespaces = join
	first := background(t, spec, overlayOf(t))
	look := script("cat /proc/1/comm; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 1000'")
	look.Linux.Namespaces = join
	p, err := Compile(look, overlayOf(t))
	if r := run(t, p, err); !strings.HasPrefix(r.stdout, "berth-reaper\nsleep 1000\n") {
		t.Errorf("%q %q", r.stdout, r.stderr)
	}
	eventually(t, func() error {
		r, err := execIn(t, spec, first, nil, "cat /proc/[0-9]*/comm | grep -c sleep; grep -l 'State:.Z' /proc/[0-9]*/status")
		if err == nil && r.stdout != "1\n" {
			err = fmt.Errorf("orphans are left: %s", r.stdout)
		}
		return err
	})
	if err := linux.PidfdSignal(one.Pidfd, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if dead, err := linux.PidfdDead(first.Pidfd, 10*time.Second); err != nil || !dead {
		t.Fatalf("a container outlived its namespace: %v", err)
	}
}

func TestReaperIsNotKilledFromInside(t *testing.T) {
	_, join := reaper(t)
	spec := script("kill -KILL 1; kill -INT 1; kill -HUP 1; kill -USR1 1; sleep 0.2; cat /proc/1/comm")
	spec.Process.Capabilities.Bounding = nil
	spec.Process.User.UID = 1234
	spec.Linux.Namespaces = join
	p, err := Compile(spec, overlayOf(t))
	if r := run(t, p, err); r.stdout != "berth-reaper\n" {
		t.Errorf("%q %q", r.stdout, r.stderr)
	}
}

func TestReaperProgramIsAnELFFile(t *testing.T) {
	b := linux.TinyProgram(reaperCode(1))
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Progs) != 1 || f.Progs[0].Filesz != uint64(len(b)) || f.Type != elf.ET_EXEC || len(b) > 256 {
		t.Fatalf("%+v, %d bytes", f.FileHeader, len(b))
	}
}
