package seccomp

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxInstructions is BPF_MAXINSNS.
const maxInstructions = 4096

// Where the fields of struct seccomp_data lie; the arguments are 64 bits each,
// and every machine served here is little-endian.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

type code = []unix.SockFilter

// program assembles filters: the architecture first, then for each of them a
// search for the syscall's number.
func program(filters []*filter) (code, error) {
	var audits []uint32
	spans := map[uint32][]span{}
	for _, f := range filters {
		audit, own := f.abi.audit, f.spans()
		if len(spans[audit]) == 0 {
			audits = append(audits, audit)
		}
		// x32 follows x86_64, from the number on at which that one's last span
		// (numbers of a foreign ABI) would begin.
		if at := spans[audit]; len(at) > 0 && at[len(at)-1].first >= own[0].first {
			spans[audit] = at[:len(at)-1]
		}
		spans[audit] = append(spans[audit], own...)
	}
	out := code{load(offArch)}
	for _, audit := range audits {
		body := append(code{load(offNumber)}, search(spans[audit])...)
		// The body may be longer than a conditional jump reaches.
		out = append(out, branch(unix.BPF_JEQ, audit, 1, 0), jump(len(body)))
		out = append(out, body...)
	}
	out = append(out, ret(foreignABI))
	if len(out) > maxInstructions {
		return nil, fmt.Errorf("the seccomp profile needs %d instructions, the kernel takes %d: %w", len(out), maxInstructions, errdefs.ErrInvalidArgument)
	}
	return out, nil
}

// search is the binary search over spans, with the number in the accumulator.
func search(spans []span) code {
	if len(spans) == 1 {
		return spans[0].verdict.code()
	}
	mid := len(spans) / 2
	low, high := search(spans[:mid]), search(spans[mid:])
	out := code{branch(unix.BPF_JGE, spans[mid].first, len(low), 0)}
	if len(low) > 255 {
		out = code{branch(unix.BPF_JGE, spans[mid].first, 0, 1), jump(len(low))}
	}
	return append(append(out, low...), high...)
}

func (v verdict) code() code {
	out := code{ret(v.plain)}
	for i := len(v.rules) - 1; i >= 0; i-- {
		out = append(v.rules[i].code(v.wide), out...)
	}
	return out
}

// code returns the action when all conditions hold, else it runs off its end.
func (r rule) code(wide bool) code {
	out := code{ret(r.action)}
	for i := len(r.conditions) - 1; i >= 0; i-- {
		out = append(r.conditions[i].code(wide, len(out)), out...)
	}
	return out
}

// code runs off its end when the condition holds, else it jumps over the rest of
// its rule as well.
func (c condition) code(wide bool, rest int) code {
	mask, value := ^uint64(0), c.value
	op := uint16(unix.BPF_JEQ)
	holds := true // what it means when the comparison is true
	switch c.op {
	case specs.OpMaskedEqual:
		mask, value = c.value, c.two&c.value
	case specs.OpNotEqual:
		holds = false
	case specs.OpGreaterThan:
		op = unix.BPF_JGT
	case specs.OpGreaterEqual:
		op = unix.BPF_JGE
	case specs.OpLessThan:
		op, holds = unix.BPF_JGE, false
	case specs.OpLessEqual:
		op, holds = unix.BPF_JGT, false
	}
	low := offArgs + 8*c.arg
	out := fetch(low, uint32(mask))
	out = append(out, unix.SockFilter{})
	if upper := uint32(mask >> 32); wide && upper != 0 {
		head := fetch(low+4, upper)
		end := len(head) + len(out)
		if op != unix.BPF_JEQ {
			end += 2
			head = append(head, branch(unix.BPF_JGT, uint32(value>>32), exit(end, len(head), holds, rest), 0))
		} else {
			end++
		}
		head = append(head, branch(unix.BPF_JEQ, uint32(value>>32), 0, exit(end, len(head), !holds, rest)))
		out = append(head, out...)
	}
	last := len(out) - 1
	out[last] = branch(op, uint32(value), exit(len(out), last, holds, rest), exit(len(out), last, !holds, rest))
	return out
}

// exit is the jump from an instruction of a condition to the condition's end, or
// to the end of its rule.
func exit(end, at int, holds bool, rest int) int {
	if holds {
		return end - 1 - at
	}
	return end - 1 - at + rest
}

func fetch(offset, mask uint32) code {
	if mask == 1<<32-1 {
		return code{load(offset)}
	}
	return code{load(offset), {Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask}}
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ret(a action) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(a)}
}

func jump(by int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(by)}
}

func branch(op uint16, k uint32, yes, no int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: uint8(yes), Jf: uint8(no), K: k}
}
