package seccomp

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Program is a filter as seccomp(2) takes it, with SECCOMP_SET_MODE_FILTER. It
// is shared by all who ask for the same profile: nobody may change it.
type Program struct {
	Filter []unix.SockFilter
	Flags  uint32 // SECCOMP_FILTER_FLAG_*
}

// maxCached bounds the cache: a node sees a handful of profiles, times the
// capability sets that RuntimeDefault depends on. A filter has about 4 KiB.
const maxCached = 64

var cache = struct {
	mu       sync.Mutex
	programs map[[sha256.Size]byte]Program // guarded by mu
}{programs: map[[sha256.Size]byte]Program{}}

// Compile translates a profile for this machine. Names of syscalls that the
// machine does not have are skipped; what else cannot be honoured is an error.
func Compile(profile *specs.LinuxSeccomp) (Program, error) {
	if profile == nil {
		return Program{}, fmt.Errorf("compile seccomp profile: there is none: %w", errdefs.ErrInvalidArgument)
	}
	text, err := json.Marshal(profile)
	if err != nil {
		return Program{}, fmt.Errorf("compile seccomp profile: %w", err)
	}
	// A list of flags that is empty and one that is missing differ in meaning but
	// not in JSON.
	if profile.Flags != nil {
		text = append(text, '+')
	}
	key := sha256.Sum256(text)
	cache.mu.Lock()
	p, ok := cache.programs[key]
	cache.mu.Unlock()
	if ok {
		return p, nil
	}
	p, err = compile(profile, runtime.GOARCH)
	if err != nil {
		return Program{}, fmt.Errorf("compile seccomp profile: %w", err)
	}
	cache.mu.Lock()
	defer cache.mu.Unlock()
	if len(cache.programs) >= maxCached {
		clear(cache.programs)
	}
	cache.programs[key] = p
	return p, nil
}

func compile(profile *specs.LinuxSeccomp, machine string) (Program, error) {
	if profile.ListenerPath != "" || profile.ListenerMetadata != "" {
		return Program{}, fmt.Errorf("seccomp listener: %w", errdefs.ErrNotImplemented)
	}
	flags, err := flagsOf(profile.Flags)
	if err != nil {
		return Program{}, err
	}
	filters, err := filtersOf(profile, machine)
	if err != nil {
		return Program{}, err
	}
	code, err := program(filters)
	if err != nil {
		return Program{}, err
	}
	return Program{Filter: code, Flags: flags}, nil
}

// filtersOf resolves a profile into one filter for each ABI that it serves.
func filtersOf(profile *specs.LinuxSeccomp, machine string) ([]*filter, error) {
	plain, err := actionOf(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("default action: %w", err)
	}
	abis, err := abisOf(machine, profile.Architectures)
	if err != nil {
		return nil, err
	}
	var filters []*filter
	for _, a := range abis {
		filters = append(filters, &filter{abi: a, plain: plain, calls: map[uint32]*verdict{}})
	}
	for i, call := range profile.Syscalls {
		if err := addCall(filters, call, plain); err != nil {
			return nil, fmt.Errorf("syscalls[%d]: %w", i, err)
		}
	}
	for _, f := range filters {
		if !answersNoSys(profile, f.abi) {
			f.highest = 0
		}
	}
	return filters, nil
}

func addCall(filters []*filter, call specs.LinuxSyscall, plain action) error {
	act, err := actionOf(call.Action, call.ErrnoRet)
	if err != nil {
		return err
	}
	rules, err := rulesOf(call, act)
	if err != nil {
		return err
	}
	if len(call.Names) == 0 {
		return fmt.Errorf("a seccomp rule names no syscall: %w", errdefs.ErrInvalidArgument)
	}
	for _, name := range call.Names {
		if name == "" {
			return fmt.Errorf("a seccomp rule has an empty syscall name: %w", errdefs.ErrInvalidArgument)
		}
		for _, f := range filters {
			if n, ok := f.abi.number(name); ok && (f.abi.own == 0 || n < f.abi.own) {
				f.highest = max(f.highest, n)
			}
			// A rule that says what holds anyway is skipped, as in runc: it never
			// stands in the way of another one for the same call.
			if act != plain {
				f.addNamed(name, rules)
			}
		}
	}
	return nil
}

// answersNoSys says whether calls above the largest number that the profile
// names get ENOSYS, as runc arranges it: they came to the kernel after the
// profile was written, and programs fall back to older calls on ENOSYS but not
// on EPERM.
func answersNoSys(profile *specs.LinuxSeccomp, a abi) bool {
	return !permissive(profile.DefaultAction) && slices.Contains(profile.Architectures, a.name)
}
