package network

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/containerd/errdefs"
)

// suffixes of Kubernetes quantities.
var suffixes = map[string]*big.Rat{
	"n": big.NewRat(1, 1e9), "u": big.NewRat(1, 1e6), "m": big.NewRat(1, 1e3), "": big.NewRat(1, 1),
	"k": big.NewRat(1e3, 1), "M": big.NewRat(1e6, 1), "G": big.NewRat(1e9, 1),
	"T": big.NewRat(1e12, 1), "P": big.NewRat(1e15, 1), "E": big.NewRat(1e18, 1),
	"Ki": big.NewRat(1<<10, 1), "Mi": big.NewRat(1<<20, 1), "Gi": big.NewRat(1<<30, 1),
	"Ti": big.NewRat(1<<40, 1), "Pi": big.NewRat(1<<50, 1), "Ei": big.NewRat(1<<60, 1),
}

// The bounds that Kubernetes sets on pod bandwidth, in bits per second.
const minRate, maxRate = 1_000, 1_000_000_000_000_000

// parseRate reads a Kubernetes quantity as bits per second, rounded up.
func parseRate(text string) (uint64, error) {
	bad := func(why string) (uint64, error) {
		return 0, fmt.Errorf("bandwidth %q: %s: %w", text, why, errdefs.ErrInvalidArgument)
	}
	if len(text) > 64 {
		return bad("too long") // big.Rat would work for long on 1e999999999
	}
	number := strings.TrimRight(text, "numkKMGTPEi")
	// "12E" is exa, "12E6" an exponent: what TrimRight leaves decides.
	factor, ok := suffixes[text[len(number):]]
	if !ok || number == "" {
		return bad("not a quantity")
	}
	if i := strings.IndexAny(number, "eE"); i >= 0 && len(number)-i > 4 {
		return bad("exponent too large")
	}
	if strings.ContainsAny(number, "/_xXoObBpP") {
		return bad("not a quantity")
	}
	r, ok := new(big.Rat).SetString(number)
	if !ok {
		return bad("not a quantity")
	}
	r.Mul(r, factor)
	n := new(big.Int).Add(r.Num(), new(big.Int).Sub(r.Denom(), big.NewInt(1)))
	n.Div(n, r.Denom())
	if n.Cmp(big.NewInt(minRate)) < 0 || n.Cmp(big.NewInt(maxRate)) > 0 {
		return bad("not within 1k and 1P")
	}
	return n.Uint64(), nil
}
