package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is written as Go writes it: "300ms", "5m". It is a struct so that
// a bare number, whose unit nobody can know, is a type error.
type Duration struct {
	time.Duration `toml:"-"`
}

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration such as \"300ms\", \"10s\" or \"5m\"", text)
	}
	d.Duration = v
	return nil
}

// MarshalText is the inverse.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.Duration.String()), nil }

// Size is a number of bytes, written as a number or with a unit: "16KiB".
type Size int64

var units = []struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1},
}

// UnmarshalText reads a size with its unit.
func (s *Size) UnmarshalText(text []byte) error {
	number, factor := string(text), int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return fmt.Errorf("%q is no size such as 16384, \"16KiB\" or \"4MiB\"", text)
	}
	*s = Size(n * factor)
	return nil
}

// MarshalText is the inverse, with the largest unit that fits.
func (s Size) MarshalText() ([]byte, error) {
	text := strconv.FormatInt(int64(s), 10)
	for _, u := range units {
		if n := int64(s); u.factor > 1 && n != 0 && n%u.factor == 0 {
			text = strconv.FormatInt(n/u.factor, 10) + u.suffix
		}
	}
	return []byte(text), nil
}

// Unlimited is RLIM_INFINITY.
const Unlimited = math.MaxUint64

// Rlimit is a resource limit, written "SOFT:HARD" or "BOTH", where each may be
// "unlimited".
type Rlimit struct {
	Soft uint64 `toml:"-"`
	Hard uint64 `toml:"-"`
}

// UnmarshalText reads a limit.
func (r *Rlimit) UnmarshalText(text []byte) error {
	soft, hard, both := strings.Cut(string(text), ":")
	if !both {
		hard = soft
	}
	var err error
	if r.Soft, err = parseLimit(soft); err == nil {
		r.Hard, err = parseLimit(hard)
	}
	if err != nil {
		return fmt.Errorf("%q is no limit such as \"1024:524288\", \"4096\" or \"unlimited\"", text)
	}
	return nil
}

// MarshalText is the inverse.
func (r Rlimit) MarshalText() ([]byte, error) {
	if r.Soft == r.Hard {
		return []byte(limitText(r.Soft)), nil
	}
	return []byte(limitText(r.Soft) + ":" + limitText(r.Hard)), nil
}

func limitText(n uint64) string {
	if n == Unlimited {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

func parseLimit(s string) (uint64, error) {
	if s == "unlimited" {
		return Unlimited, nil
	}
	return strconv.ParseUint(s, 10, 64)
}
