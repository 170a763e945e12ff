package seccomp

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// maxArgs is how many arguments a syscall has.
const maxArgs = 6

// condition compares one argument.
type condition struct {
	arg        uint32
	op         specs.LinuxSeccompOperator
	value, two uint64
}

// rule is an action under conditions that must all hold.
type rule struct {
	conditions []condition
	action     action
}

// verdict is what happens to one syscall number: the action of the first rule
// whose conditions hold, else the plain action.
type verdict struct {
	rules []rule
	plain action
	wide  bool // the rules compare 64-bit arguments
	// An unconditional rule decided. It beats rules with conditions wherever they
	// stand, and later unconditional ones (libseccomp, db_rule_add).
	settled bool
}

// filter collects the verdicts of one ABI.
type filter struct {
	abi     abi
	plain   action // for numbers without a rule
	calls   map[uint32]*verdict
	highest uint32 // largest number that the profile names, whatever its rule
}

func (f *filter) add(number uint32, r rule) {
	v := f.calls[number]
	if v == nil {
		v = &verdict{plain: f.plain, wide: f.abi.wide}
		f.calls[number] = v
	}
	switch {
	case v.settled:
	case len(r.conditions) == 0:
		*v = verdict{plain: r.action, settled: true}
	default:
		v.rules = append(v.rules, r)
	}
}

// addNamed adds the rules for a name, in this ABI's numbers. A name that the ABI
// does not have is no error: profiles name the calls of all machines at once.
func (f *filter) addNamed(name string, rules []rule) {
	if n, ok := f.abi.number(name); ok {
		for _, r := range rules {
			f.add(n, r)
		}
	}
	if !f.abi.muxed {
		return
	}
	// The second road to the same call. Its first argument selects the call, so a
	// condition on the call's own first argument cannot be told here; libseccomp
	// replaces it in the same way.
	if n, selector, ok := multiplexed(name); ok {
		for _, r := range rules {
			f.add(n, rule{conditions: selecting(selector, r.conditions), action: r.action})
		}
	}
}

func selecting(selector uint64, rest []condition) []condition {
	out := []condition{{arg: 0, op: specs.OpEqualTo, value: selector}}
	for _, c := range rest {
		if c.arg != 0 {
			out = append(out, c)
		}
	}
	return out
}

// rulesOf reads one entry of a profile. Conditions on different arguments must
// all hold; as soon as one argument has two of them, each condition is a rule of
// its own (runc and crun: seccomp_rule_add takes an argument only once).
func rulesOf(call specs.LinuxSyscall, act action) ([]rule, error) {
	if len(call.Args) == 0 {
		return []rule{{action: act}}, nil
	}
	var conditions []condition
	var seen [maxArgs]bool
	apart := false
	for _, a := range call.Args {
		if a.Index >= maxArgs {
			return nil, fmt.Errorf("seccomp argument index %d: a syscall has %d arguments: %w", a.Index, maxArgs, errdefs.ErrInvalidArgument)
		}
		switch a.Op {
		case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
			specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual:
		default:
			return nil, fmt.Errorf("seccomp operator %q is unknown: %w", a.Op, errdefs.ErrInvalidArgument)
		}
		apart = apart || seen[a.Index]
		seen[a.Index] = true
		conditions = append(conditions, condition{arg: uint32(a.Index), op: a.Op, value: a.Value, two: a.ValueTwo})
	}
	if !apart {
		return []rule{{conditions: conditions, action: act}}, nil
	}
	var rules []rule
	for i := range conditions {
		rules = append(rules, rule{conditions: conditions[i : i+1 : i+1], action: act})
	}
	return rules, nil
}
