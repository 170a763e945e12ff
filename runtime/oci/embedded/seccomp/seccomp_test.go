package seccomp

import (
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func errno(n uint) *uint { return &n }

func allow(names ...string) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: names, Action: specs.ActAllow}
}

func when(name string, act specs.LinuxSeccompAction, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: []string{name}, Action: act, Args: args}
}

func arg(i uint, op specs.LinuxSeccompOperator, v uint64, two ...uint64) specs.LinuxSeccompArg {
	a := specs.LinuxSeccompArg{Index: i, Op: op, Value: v}
	if len(two) > 0 {
		a.ValueTwo = two[0]
	}
	return a
}

var x86All = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}

// runtimeDefault is the profile that CRI's RuntimeDefault stands for, for a
// container whose bounding set holds caps.
func runtimeDefault(caps ...string) *specs.LinuxSeccomp {
	p, err := moby.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
	if err != nil {
		panic(err)
	}
	return p
}

func profiles(t testing.TB) map[string]*specs.LinuxSeccomp {
	t.Helper()
	withCaps := func(caps ...string) *specs.LinuxSeccomp {
		p := runtimeDefault(caps...)
		p.Architectures = append(slices.Clone(x86All), specs.ArchAARCH64, specs.ArchARM)
		return p
	}
	all := append(slices.Clone(x86All), specs.ArchAARCH64, specs.ArchARM, specs.ArchS390X)
	return map[string]*specs.LinuxSeccomp{
		"runtime default":                 withCaps(),
		"runtime default, with SYS_ADMIN": withCaps("CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_CHROOT"),
		"everything allowed":              {DefaultAction: specs.ActAllow},
		"everything refused":              {DefaultAction: specs.ActErrno, Architectures: all},
		"everything refused with ENOSYS":  {DefaultAction: specs.ActErrno, DefaultErrnoRet: errno(38), Architectures: all},
		"one call denied":                 {DefaultAction: specs.ActAllow, Architectures: all, Syscalls: []specs.LinuxSyscall{{Names: []string{"chmod", "fchmodat"}, Action: specs.ActErrno, ErrnoRet: errno(1)}}},
		"native only":                     {DefaultAction: specs.ActKill, Syscalls: []specs.LinuxSyscall{allow("read", "write", "exit_group")}},
		"native and x32":                  {DefaultAction: specs.ActKillProcess, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX32}, Syscalls: []specs.LinuxSyscall{allow("read", "ioctl", "execve", "openat2")}},
		"x32 but the list forgets x86_64": {DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX32}, Syscalls: []specs.LinuxSyscall{allow("read", "ioctl")}},
		"unknown names are skipped":       {DefaultAction: specs.ActTrap, Architectures: all, Syscalls: []specs.LinuxSyscall{allow("no_such_call", "read", "cacheflush", "set_tls")}},
		"an unconditional rule wins": {DefaultAction: specs.ActErrno, Architectures: all, Syscalls: []specs.LinuxSyscall{
			when("mmap", specs.ActLog, arg(2, specs.OpMaskedEqual, 4, 4)), when("mmap", specs.ActAllow), when("mmap", specs.ActKill)}},
		"a redundant rule says nothing": {DefaultAction: specs.ActErrno, Architectures: all, Syscalls: []specs.LinuxSyscall{
			when("kill", specs.ActErrno), when("kill", specs.ActAllow, arg(1, specs.OpEqualTo, 15))}},
		"the first matching condition wins": {DefaultAction: specs.ActAllow, Architectures: all, Syscalls: []specs.LinuxSyscall{
			when("write", specs.ActTrace, arg(0, specs.OpGreaterThan, 10)), when("write", specs.ActLog, arg(0, specs.OpGreaterThan, 5))}},
		"conditions on different arguments hold together": {DefaultAction: specs.ActErrno, Architectures: all, Syscalls: []specs.LinuxSyscall{
			when("ioctl", specs.ActAllow, arg(0, specs.OpLessEqual, 2), arg(1, specs.OpEqualTo, 0x5413), arg(2, specs.OpNotEqual, 0x1_0000_0000))}},
		"conditions on one argument are alternatives": {DefaultAction: specs.ActErrno, Architectures: all, Syscalls: []specs.LinuxSyscall{
			when("ioctl", specs.ActAllow, arg(1, specs.OpEqualTo, 0x5413), arg(1, specs.OpEqualTo, 0x5401), arg(0, specs.OpLessThan, 3))}},
		"all operators over 64 bits": {DefaultAction: specs.ActErrno, Architectures: all, Syscalls: []specs.LinuxSyscall{
			when("read", specs.ActAllow, arg(0, specs.OpEqualTo, 0x1_0000_0002)),
			when("write", specs.ActAllow, arg(0, specs.OpNotEqual, 0x1_0000_0002)),
			when("pread64", specs.ActAllow, arg(1, specs.OpLessThan, 0x1_0000_0002)),
			when("pwrite64", specs.ActAllow, arg(1, specs.OpLessEqual, 0x1_0000_0002)),
			when("lseek", specs.ActAllow, arg(2, specs.OpGreaterThan, 0x1_0000_0002)),
			when("mmap", specs.ActAllow, arg(5, specs.OpGreaterEqual, 0x1_0000_0002)),
			when("mprotect", specs.ActAllow, arg(2, specs.OpMaskedEqual, 0xff00_0000_00ff, 0x1200_0000_0034)),
			when("munmap", specs.ActAllow, arg(0, specs.OpMaskedEqual, 0xffff_0000_0000, 0x1_0000_0000)),
			when("brk", specs.ActAllow, arg(0, specs.OpMaskedEqual, 0xf0, 0xfff))}},
		"socket calls through the multiplexer": {DefaultAction: specs.ActErrno, Architectures: all, Syscalls: []specs.LinuxSyscall{
			allow("bind", "semop"), when("socket", specs.ActAllow, arg(0, specs.OpEqualTo, 1)),
			when("connect", specs.ActLog, arg(2, specs.OpLessThan, 100)), when("shmat", specs.ActAllow, arg(0, specs.OpEqualTo, 1), arg(0, specs.OpEqualTo, 2))}},
	}
}

func TestProgramMeansWhatTheProfileSays(t *testing.T) {
	for name, p := range profiles(t) {
		for _, machine := range []string{"amd64", "arm64"} {
			t.Run(name+" on "+machine, func(t *testing.T) {
				n := check(t, p, machine, 300)
				t.Logf("%d instructions", n)
			})
		}
	}
}

func TestProfileIsRefused(t *testing.T) {
	read := func(s specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{s}}
	}
	var huge []specs.LinuxSyscall
	for i := range uint64(900) {
		huge = append(huge, when("read", specs.ActErrno, arg(0, specs.OpEqualTo, i)))
	}
	for name, tc := range map[string]struct {
		profile *specs.LinuxSeccomp
		kind    func(error) bool
	}{
		"no profile":                  {nil, errdefs.IsInvalidArgument},
		"no default action":           {&specs.LinuxSeccomp{}, errdefs.IsInvalidArgument},
		"unknown action":              {read(specs.LinuxSyscall{Names: []string{"read"}, Action: "SCMP_ACT_DANCE"}), errdefs.IsInvalidArgument},
		"notify":                      {read(specs.LinuxSyscall{Names: []string{"mount"}, Action: specs.ActNotify}), errdefs.IsNotImplemented},
		"notify by default":           {&specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, errdefs.IsNotImplemented},
		"listener":                    {&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/run/x"}, errdefs.IsNotImplemented},
		"errno with allow":            {read(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow, ErrnoRet: errno(1)}), errdefs.IsInvalidArgument},
		"errno too large":             {read(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno, ErrnoRet: errno(4096)}), errdefs.IsInvalidArgument},
		"seventh argument":            {read(when("read", specs.ActErrno, arg(6, specs.OpEqualTo, 1))), errdefs.IsInvalidArgument},
		"unknown operator":            {read(when("read", specs.ActErrno, arg(0, "SCMP_CMP_ROUGHLY", 1))), errdefs.IsInvalidArgument},
		"rule without names":          {read(specs.LinuxSyscall{Action: specs.ActErrno}), errdefs.IsInvalidArgument},
		"empty name":                  {read(specs.LinuxSyscall{Names: []string{""}, Action: specs.ActErrno}), errdefs.IsInvalidArgument},
		"unknown architecture":        {&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"SCMP_ARCH_PDP11"}}, errdefs.IsInvalidArgument},
		"unknown flag":                {&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_X"}}, errdefs.IsInvalidArgument},
		"flag that needs a listener":  {&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}}, errdefs.IsInvalidArgument},
		"more rules than BPF can say": {&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: huge}, errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Compile(tc.profile); err == nil || !tc.kind(err) {
				t.Fatalf("got error %v", err)
			}
		})
	}
	if _, err := compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, "riscv64"); !errdefs.IsNotImplemented(err) {
		t.Errorf("a machine without tables: got error %v", err)
	}
}

func TestFlags(t *testing.T) {
	for name, tc := range map[string]struct {
		flags []specs.LinuxSeccompFlag
		want  uint32
	}{
		"none given":        {nil, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		"an empty list":     {[]specs.LinuxSeccompFlag{}, 0},
		"log":               {[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}, unix.SECCOMP_FILTER_FLAG_LOG},
		"speculation, sync": {[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagSpecAllow, "SECCOMP_FILTER_FLAG_TSYNC"}, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: tc.flags})
			if err != nil || p.Flags != tc.want {
				t.Fatalf("got flags %#x, error %v, want %#x", p.Flags, err, tc.want)
			}
		})
	}
}

func TestTablesAreSorted(t *testing.T) {
	for name, table := range map[string][]syscall{"amd64": syscallsAMD64, "386": syscalls386, "arm64": syscallsARM64, "arm": syscallsARM,
		"x32": x32Own, "arm's own": armOwn, "socketcall": socketcalls, "ipc": ipcCalls} {
		if !slices.IsSortedFunc(table, func(a, b syscall) int {
			if a.name < b.name {
				return -1
			}
			return 1
		}) {
			t.Errorf("the table of %s is not sorted", name)
		}
	}
}
