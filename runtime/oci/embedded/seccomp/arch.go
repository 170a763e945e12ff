package seccomp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// syscall is one line of a generated table.
type syscall struct {
	name   string
	number uint32
}

func find(table []syscall, name string) (uint32, bool) {
	i, ok := slices.BinarySearchFunc(table, name, func(s syscall, n string) int { return strings.Compare(s.name, n) })
	if !ok {
		return 0, false
	}
	return table[i].number, true
}

// x32Bit marks the syscalls of the x32 ABI, which has no AUDIT_ARCH of its own.
const x32Bit = 0x40000000

// armPrivate is where arm keeps its private syscalls, far above the others.
const armPrivate = 0x0f0000

// abi is one way of making syscalls that a kernel accepts.
type abi struct {
	name   specs.Arch
	audit  uint32 // seccomp_data.arch
	first  uint32 // smallest number, where two ABIs share an audit value
	end    uint32 // numbers from here on are another ABI's; 0: none
	own    uint32 // private numbers, apart from the others, start here; 0: none
	wide   bool   // arguments have 64 bits; with 32 only the lower half is compared, as in libseccomp
	muxed  bool   // socket and System V calls also arrive through socketcall and ipc
	number func(name string) (uint32, bool)
}

var (
	x86_64 = abi{name: specs.ArchX86_64, audit: unix.AUDIT_ARCH_X86_64, end: x32Bit, wide: true,
		number: func(n string) (uint32, bool) { return find(syscallsAMD64, n) }}
	x32 = abi{name: specs.ArchX32, audit: unix.AUDIT_ARCH_X86_64, first: x32Bit,
		number: x32Number}
	x86 = abi{name: specs.ArchX86, audit: unix.AUDIT_ARCH_I386, muxed: true,
		number: func(n string) (uint32, bool) { return find(syscalls386, n) }}
	aarch64 = abi{name: specs.ArchAARCH64, audit: unix.AUDIT_ARCH_AARCH64, wide: true,
		number: func(n string) (uint32, bool) { return find(syscallsARM64, n) }}
	arm = abi{name: specs.ArchARM, audit: unix.AUDIT_ARCH_ARM, own: armPrivate,
		number: armNumber}
)

// machines lists, by GOARCH, the ABIs a kernel can be asked in; the native one
// comes first and is in every filter.
var machines = map[string][]abi{
	"amd64": {x86_64, x32, x86},
	"arm64": {aarch64, arm},
}

// x32Own are the calls that x32 numbers apart from x86_64, because their
// structures differ (arch/x86/entry/syscalls/syscall_64.tbl, 512 to 547).
var x32Own = []syscall{
	{"execve", 520}, {"execveat", 545}, {"get_robust_list", 531}, {"getsockopt", 542},
	{"io_setup", 543}, {"io_submit", 544}, {"ioctl", 514}, {"kexec_load", 528},
	{"move_pages", 533}, {"mq_notify", 527}, {"preadv", 534}, {"preadv2", 546},
	{"process_vm_readv", 539}, {"process_vm_writev", 540}, {"ptrace", 521}, {"pwritev", 535},
	{"pwritev2", 547}, {"readv", 515}, {"recvfrom", 517}, {"recvmmsg", 537},
	{"recvmsg", 519}, {"rt_sigaction", 512}, {"rt_sigpending", 522}, {"rt_sigqueueinfo", 524},
	{"rt_sigreturn", 513}, {"rt_sigtimedwait", 523}, {"rt_tgsigqueueinfo", 536}, {"sendmmsg", 538},
	{"sendmsg", 518}, {"set_robust_list", 530}, {"setsockopt", 541}, {"sigaltstack", 525},
	{"timer_create", 526}, {"vmsplice", 532}, {"waitid", 529}, {"writev", 516},
}

func x32Number(name string) (uint32, bool) {
	n, ok := find(x32Own, name)
	if !ok {
		n, ok = find(syscallsAMD64, name)
	}
	return n | x32Bit, ok
}

// armOwn are arm's private calls, which the syscall headers list apart
// (arch/arm/include/uapi/asm/unistd.h).
var armOwn = []syscall{
	{"breakpoint", armPrivate + 1}, {"cacheflush", armPrivate + 2}, {"get_tls", armPrivate + 6},
	{"set_tls", armPrivate + 5}, {"usr26", armPrivate + 3}, {"usr32", armPrivate + 4},
}

func armNumber(name string) (uint32, bool) {
	if n, ok := find(armOwn, name); ok {
		return n, true
	}
	return find(syscallsARM, name)
}

// known holds the architectures of the OCI spec. Those of other machines can
// stand in a profile: no syscall of theirs ever arrives here.
var known = []specs.Arch{
	specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64,
	specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
	specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X,
	specs.ArchPARISC, specs.ArchPARISC64, specs.ArchRISCV64, specs.ArchLOONGARCH64,
}

// abisOf returns the ABIs of the machine that a filter for these architectures
// serves.
func abisOf(machine string, archs []specs.Arch) ([]abi, error) {
	all, ok := machines[machine]
	if !ok {
		return nil, fmt.Errorf("seccomp filters for %s: %w", machine, errdefs.ErrNotImplemented)
	}
	for _, a := range archs {
		if !slices.Contains(known, a) {
			return nil, fmt.Errorf("seccomp architecture %q is unknown: %w", a, errdefs.ErrInvalidArgument)
		}
	}
	var served []abi
	for i, a := range all {
		if i == 0 || slices.Contains(archs, a.name) {
			served = append(served, a)
		}
	}
	return served, nil
}
