package embedded

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestSeccompOfContainer(t *testing.T) {
	deny := func(names ...string) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow,
			Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64},
			Syscalls:      []specs.LinuxSyscall{{Names: names, Action: specs.ActErrno, ErrnoRet: ptr(uint(37))}},
		}
	}
	mkdir := func(s *specs.Spec, _ string) { s.Linux.Seccomp = deny("mkdir", "mkdirat") }
	for name, tc := range map[string]situation{
		"is loaded":                 {mkdir, "mkdir /tmp/x || grep Seccomp: /proc/self/status", "Seccomp:\t2\n"},
		"also without no_new_privs": {func(s *specs.Spec, d string) { mkdir(s, d); s.Process.NoNewPrivileges = false }, "mkdir /tmp/x || grep Seccomp: /proc/self/status", "Seccomp:\t2\n"},
		"also for a user without any": {func(s *specs.Spec, d string) {
			mkdir(s, d)
			s.Process.NoNewPrivileges = false
			s.Process.User.UID = 1000
		}, "mkdir /tmp/x || grep Seccomp: /proc/self/status", "Seccomp:\t2\n"},
		"need not allow what berth-init does": {func(s *specs.Spec, _ string) {
			s.Linux.Seccomp = deny("capset", "setgroups", "setresuid", "prctl", "openat2", "move_mount", "pivot_root", "close_range", "faccessat", "sendto", "rt_sigaction", "setsid")
		}, "echo ok", "ok\n"},
	} {
		t.Run(name, func(t *testing.T) { check(t, tc) })
	}
}

// execve itself may be forbidden: then the launcher hears of it when the filter
// lets the message through.
func TestSeccompThatForbidsExecve(t *testing.T) {
	s := specOf("true")
	s.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"execve"}, Action: specs.ActErrno}},
	}
	p, err := Compile(s, overlayOf(t))
	if _, err := try(t, p, err); err == nil || err.Error() != `exec: "true": operation not permitted` {
		t.Fatal(err)
	}
}
