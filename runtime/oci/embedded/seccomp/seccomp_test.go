package seccomp

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
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

// machineVM runs a program on seccomp_data. The VM reads its packet big-endian,
// the kernel reads its structure in the machine's order: so each word is stored
// big-endian.
type machineVM struct{ vm *bpf.VM }

func newVM(t testing.TB, p Program) machineVM {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(p.Filter))
	for i, f := range p.Filter {
		raw[i] = bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	ins, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program holds an instruction that does not exist")
	}
	vm, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatalf("the program is not well formed: %v", err)
	}
	return machineVM{vm}
}

func (m machineVM) run(t testing.TB, audit, nr uint32, args [maxArgs]uint64) action {
	t.Helper()
	var data [64]byte
	binary.BigEndian.PutUint32(data[0:], nr)
	binary.BigEndian.PutUint32(data[4:], audit)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
	}
	got, err := m.vm.Run(data[:])
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	return action(got)
}

// oracle decides a syscall straight from the profile, name by name and rule by
// rule: slowly, and without any of the structures of the compiler.
func oracle(t testing.TB, p *specs.LinuxSeccomp, abis []abi, audit, nr uint32, args [maxArgs]uint64) action {
	t.Helper()
	var a abi
	for _, c := range abis {
		if c.audit == audit && (c.first != 0) == (audit == unix.AUDIT_ARCH_X86_64 && nr >= x32Bit) {
			a = c
		}
	}
	if a.number == nil {
		return unix.SECCOMP_RET_KILL_PROCESS
	}
	plain, err := actionOf(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		t.Fatal(err)
	}
	if !a.wide {
		for i := range args {
			args[i] &= 1<<32 - 1
		}
	}
	highest, first, firstSet := uint32(0), plain, false
	for pass := range 2 { // unconditional rules first
		for _, call := range p.Syscalls {
			act, err := actionOf(call.Action, call.ErrnoRet)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range call.Names {
				n, ok := a.number(name)
				if ok && n < armPrivate || ok && a.first != 0 {
					highest = max(highest, n)
				}
				muxNr, selector, muxed := multiplexed(name)
				direct := ok && n == nr
				viaMux := a.muxed && muxed && muxNr == nr
				if act == plain || firstSet {
					continue
				}
				switch {
				case direct && pass == 0 && len(call.Args) == 0,
					direct && pass == 1 && len(call.Args) > 0 && oracleArgs(call.Args, args, a.wide),
					pass == 1 && viaMux && args[0] == selector && oracleMux(call.Args, args):
					first, firstSet = act, true
				}
			}
		}
	}
	if firstSet {
		return first
	}
	restrictive := p.DefaultAction != specs.ActAllow && p.DefaultAction != specs.ActLog && p.DefaultAction != specs.ActTrace
	private := a.name == specs.ArchARM && nr >= armPrivate
	if restrictive && slices.Contains(p.Architectures, a.name) && highest != 0 && nr > highest && !private {
		return enosys
	}
	return plain
}

func oracleArgs(conds []specs.LinuxSeccompArg, args [maxArgs]uint64, wide bool) bool {
	count := map[uint]int{}
	all, any, twice := true, false, false
	for _, c := range conds {
		v, two, got := c.Value, c.ValueTwo, args[c.Index]
		if !wide {
			v, two = v&(1<<32-1), two&(1<<32-1)
		}
		var ok bool
		switch c.Op {
		case specs.OpEqualTo:
			ok = got == v
		case specs.OpNotEqual:
			ok = got != v
		case specs.OpLessThan:
			ok = got < v
		case specs.OpLessEqual:
			ok = got <= v
		case specs.OpGreaterThan:
			ok = got > v
		case specs.OpGreaterEqual:
			ok = got >= v
		case specs.OpMaskedEqual:
			ok = got&v == two&v
		}
		count[c.Index]++
		twice = twice || count[c.Index] > 1
		all, any = all && ok, any || ok
	}
	return twice && any || !twice && all
}

// oracleMux evaluates a rule on the other road of i386, where conditions on
// argument 0 cannot be told: they count as true.
func oracleMux(conds []specs.LinuxSeccompArg, args [maxArgs]uint64) bool {
	count := map[uint]int{}
	all, any, twice := true, false, false
	for _, c := range conds {
		ok := c.Index == 0 || oracleArgs([]specs.LinuxSeccompArg{c}, args, false)
		count[c.Index]++
		twice = twice || count[c.Index] > 1
		all, any = all && ok, any || ok
	}
	return twice && any || !twice && all
}

// interesting are argument values around everything that a profile compares
// with, in both halves of the word.
func interesting(p *specs.LinuxSeccomp) []uint64 {
	vals := []uint64{0, 1, 1<<32 - 1, 1 << 32, 1<<64 - 1}
	for _, s := range p.Syscalls {
		for _, a := range s.Args {
			for _, v := range []uint64{a.Value, a.ValueTwo, a.Value & a.ValueTwo, a.Value | a.ValueTwo} {
				vals = append(vals, v-1, v, v+1, v^1<<32, v+1<<32, v-1<<32, v^1<<63, ^v)
			}
		}
	}
	slices.Sort(vals)
	return slices.Compact(vals)
}

// check compares program and oracle for every syscall number near any table and
// a seeded choice of arguments.
func check(t testing.TB, p *specs.LinuxSeccomp, machine string, combos int) int {
	t.Helper()
	prog, err := compile(p, machine)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	vm := newVM(t, prog)
	abis, err := abisOf(machine, p.Architectures)
	if err != nil {
		t.Fatal(err)
	}
	var numbers []uint32
	for n := uint32(0); n < 500; n++ {
		numbers = append(numbers, n)
	}
	for n := uint32(0); n < 8; n++ {
		numbers = append(numbers, armPrivate+n, 1000+n, x32Bit-1-n, 1<<31+n, 1<<32-1-n)
	}
	for n := uint32(0); n < 560; n++ {
		numbers = append(numbers, x32Bit+n)
	}
	conditional := map[string]bool{"socketcall": true, "ipc": true}
	for _, s := range p.Syscalls {
		for _, n := range s.Names {
			conditional[n] = conditional[n] || len(s.Args) > 0
		}
	}
	vals := interesting(p)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, audit := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_PPC64, 0} {
		hot := map[uint32]bool{}
		for _, a := range abis {
			for n, c := range conditional {
				if nr, ok := a.number(n); ok && c && a.audit == audit {
					hot[nr] = true
				}
			}
		}
		for _, nr := range numbers {
			rounds := 1
			if hot[nr] {
				rounds = combos
			}
			for range rounds {
				var args [maxArgs]uint64
				for i := range args {
					args[i] = vals[rng.IntN(len(vals))]
				}
				if rng.IntN(3) == 0 { // selectors of the multiplexers
					args[0] = uint64(rng.IntN(25))
				}
				got, want := vm.run(t, audit, nr, args), oracle(t, p, abis, audit, nr, args)
				if got != want {
					t.Fatalf("arch %#x syscall %d (%#x) args %#x: the program answers %#x, the profile says %#x", audit, nr, nr, args, uint32(got), uint32(want))
				}
			}
		}
	}
	return len(prog.Filter)
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
