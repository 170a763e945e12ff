package seccomp

import "slices"

// span is a run of syscall numbers with one verdict, up to the next span.
type span struct {
	first   uint32
	verdict verdict
}

// spans lists the verdicts of an ABI from its first number on; neighbours that
// agree are one span.
func (f *filter) spans() []span {
	edges := []uint32{f.abi.first}
	if f.highest != 0 {
		edges = append(edges, f.highest+1)
	}
	if f.abi.end != 0 {
		edges = append(edges, f.abi.end)
	}
	if f.abi.own != 0 {
		edges = append(edges, f.abi.own)
	}
	for n := range f.calls {
		edges = append(edges, n, n+1)
	}
	slices.Sort(edges)
	var out []span
	for _, n := range slices.Compact(edges) {
		v := f.at(n)
		if last := len(out) - 1; last >= 0 && agree(out[last].verdict, v) {
			continue
		}
		out = append(out, span{n, v})
	}
	return out
}

// at is the verdict on one number.
func (f *filter) at(n uint32) verdict {
	if v, ok := f.calls[n]; ok {
		return *v
	}
	switch {
	case f.abi.end != 0 && n >= f.abi.end:
		return verdict{plain: foreignABI}
	case f.abi.own != 0 && n >= f.abi.own:
		return verdict{plain: f.plain}
	case f.highest != 0 && n > f.highest:
		return verdict{plain: enosys}
	}
	return verdict{plain: f.plain}
}

func agree(a, b verdict) bool {
	return len(a.rules) == 0 && len(b.rules) == 0 && a.plain == b.plain
}
