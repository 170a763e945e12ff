package seccomp

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

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
