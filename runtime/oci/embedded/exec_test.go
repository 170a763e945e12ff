package embedded

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
)

// execIn runs a script in a running container.
func execIn(t testing.TB, spec *specs.Spec, target *Process, edit func(*specs.Process), text string) (result, error) {
	t.Helper()
	p := *spec.Process
	p.Args = []string{"/bin/sh", "-c", text}
	if edit != nil {
		edit(&p)
	}
	prepared, err := CompileExec(spec, &p)
	return try(t, prepared, err, func(s *Start) { s.TargetPidfd = target.Pidfd })
}

func TestExecSeesWhatTheContainerSees(t *testing.T) {
	spec := script("echo here > /tmp/mark; umask > /tmp/u; exec sleep 1000")
	spec.Process.Env = append(spec.Process.Env, "FROM=spec")
	spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 123, Hard: 234}}
	target := background(t, spec, overlayOf(t))
	eventually(t, func() error { return contains(fmt.Sprintf("/proc/%d/comm", target.Pid), "sleep") })
	ns := func(pid string) string {
		var all []string
		for _, name := range []string{"mnt", "pid", "net", "ipc", "uts", "cgroup", "user"} {
			link, err := os.Readlink("/proc/" + pid + "/ns/" + name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, link)
		}
		return strings.Join(all, "\n") + "\n"
	}
	const list = "for n in mnt pid net ipc uts cgroup user; do readlink /proc/self/ns/$n; done"
	for name, tc := range map[string]struct {
		edit         func(*specs.Process)
		script, want string
	}{
		"its namespaces":        {nil, list, ns(fmt.Sprint(target.Pid))},
		"its files":             {nil, "cat /tmp/mark; pwd", "here\n/\n"},
		"its process 1":         {nil, "cat /proc/1/comm; test $$ != 1 && echo other", "sleep\nother\n"},
		"its limits":            {nil, "ulimit -Sn", "123\n"},
		"other limits":          {func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 50, Hard: 50}} }, "ulimit -n", "50\n"},
		"its environment":       {nil, "echo $FROM", "spec\n"},
		"its capabilities":      {func(p *specs.Process) { p.Capabilities = nil }, "grep CapBnd /proc/self/status", "CapBnd:\t00000000a80425fb\n"},
		"no new privileges":     {func(p *specs.Process) { p.NoNewPrivileges = false }, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"},
		"another user":          {func(p *specs.Process) { p.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{7}} }, "id -u; id -g; grep Groups /proc/self/status; grep CapEff /proc/self/status", "5\n6\nGroups:\t7 \nCapEff:\t0000000000000000\n"},
		"another directory":     {func(p *specs.Process) { p.Cwd = "/home/user" }, "pwd", "/home/user\n"},
		"a session of its own":  {nil, "awk '/NSpgid|NSsid/{print $2 == '$$'}' /proc/$$/status", "1\n1\n"},
		"only its descriptors":  {nil, "ls /proc/$$/fd; true", "0\n1\n2\n"},
		"nothing of the target": {nil, "test -e /proc/self/fd/5 || echo no", "no\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := execIn(t, spec, target, tc.edit, tc.script)
			if err != nil || r.stdout != tc.want {
				t.Fatalf("got %q, want %q; stderr %q, %v", r.stdout, tc.want, r.stderr, err)
			}
		})
	}
	t.Run("its exit code", func(t *testing.T) {
		if r, err := execIn(t, spec, target, nil, "exit 42"); err != nil || r.status.ExitStatus() != 42 {
			t.Fatalf("%#x %v", r.status, err)
		}
	})
	t.Run("death by signal", func(t *testing.T) {
		if r, err := execIn(t, spec, target, nil, "kill -9 $$"); err != nil || r.status.Signal() != unix.SIGKILL {
			t.Fatalf("%#x %v", r.status, err)
		}
	})
}

func TestExecFailures(t *testing.T) {
	spec := specOf("sleep", "1000")
	target := background(t, spec, overlayOf(t))
	for name, tc := range map[string]struct {
		edit func(*specs.Process)
		want string
	}{
		"no such program":   {func(p *specs.Process) { p.Args = []string{"frob"} }, `exec: "frob": executable file not found in $PATH`},
		"no such directory": {func(p *specs.Process) { p.Cwd = "/no/such" }, "working directory /no/such: it does not exist"},
	} {
		if _, err := execIn(t, spec, target, tc.edit, ""); err == nil || err.Error() != tc.want || !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExecIntoWhatHasEnded(t *testing.T) {
	spec := specOf("sleep", "1000")
	p, err := Compile(spec, overlayOf(t))
	if err != nil {
		t.Fatal(err)
	}
	f := planFile(t, p)
	defer f.Close()
	target, err := launcher.Start(t.Context(), Start{Prepared: p, Plan: f})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Pidfd.Close()
	linux.PidfdSignal(target.Pidfd, unix.SIGKILL)
	linux.PidfdDead(target.Pidfd, -1)
	if _, err := execIn(t, spec, target, nil, "true"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("a zombie: %v", err)
	}
	wait(t, target)
	if _, err := execIn(t, spec, target, nil, "true"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("a reaped process: %v", err)
	}
}

// The image and the container must not be able to make an exec write or start
// somewhere else (CVE-2024-21626, CVE-2025-52881).
func TestExecIntoHostileContainer(t *testing.T) {
	spec := script("rm -rf /tmp/x; ln -s /proc/self/fd/4 /tmp/x; mount -t tmpfs none /proc; mkdir -p /proc/self/attr; touch /proc/self/attr/exec; exec sleep 1000")
	spec.Process.NoNewPrivileges = false
	all := append([]string{"CAP_SYS_ADMIN"}, defaultCapabilities...)
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	target := background(t, spec, overlayOf(t))
	eventually(t, func() error { return contains(fmt.Sprintf("/proc/%d/comm", target.Pid), "sleep") })
	for _, cwd := range []string{"/tmp/x", "/proc/self/fd/4", "/proc/self/fd/5", "/proc/self/fd/6"} {
		r, err := execIn(t, spec, target, func(p *specs.Process) { p.Cwd = cwd }, "pwd")
		if err == nil {
			t.Errorf("an exec ran in %s: %q", cwd, r.stdout)
		}
	}
	if r, err := execIn(t, spec, target, nil, "echo fine"); err != nil || r.stdout != "fine\n" {
		t.Errorf("%q %v", r.stdout, err)
	}
}
