package spec

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The kernel's bounds of CFS bandwidth control, in microseconds.
const (
	minQuota  = 1000
	minPeriod = 1000
	maxPeriod = 1000000
)

// ValidateResources checks limits that come by themselves, in the field of a
// request.
func ValidateResources(field string, r *runtimeapi.LinuxContainerResources) error {
	if err := validateResources(r); err != nil {
		return fmt.Errorf("%s.%w", field, err)
	}
	return nil
}

// validateResources checks limits; its errors start with the field's name.
func validateResources(r *runtimeapi.LinuxContainerResources) error {
	if p := r.GetCpuPeriod(); p != 0 && (p < minPeriod || p > maxPeriod) {
		return invalid("cpu_period", p, fmt.Sprintf("must be between %d and %d", minPeriod, maxPeriod))
	}
	if q := r.GetCpuQuota(); q < -1 || q > 0 && q < minQuota {
		return invalid("cpu_quota", q, fmt.Sprintf("must be at least %d, or -1 for none", minQuota))
	}
	if s := r.GetCpuShares(); s < 0 {
		return invalid("cpu_shares", s, "must not be negative")
	}
	for _, c := range []struct{ field, value string }{{"cpuset_cpus", r.GetCpusetCpus()}, {"cpuset_mems", r.GetCpusetMems()}} {
		if !isList(c.value) {
			return invalid(c.field, c.value, "not a list such as 0-3,7")
		}
	}
	limit, swap := r.GetMemoryLimitInBytes(), r.GetMemorySwapLimitInBytes()
	switch {
	case limit < -1:
		return invalid("memory_limit_in_bytes", limit, "must not be negative, but for -1: no limit")
	case swap < -1:
		return invalid("memory_swap_limit_in_bytes", swap, "must not be negative, but for -1: no limit")
	case swap > 0 && limit <= 0:
		return invalid("memory_swap_limit_in_bytes", swap, "needs memory_limit_in_bytes")
	case swap > 0 && swap < limit:
		return invalid("memory_swap_limit_in_bytes", swap, fmt.Sprintf("counts memory and swap together, memory alone may have %d", limit))
	}
	if a := r.GetOomScoreAdj(); a < -1000 || a > 1000 {
		return invalid("oom_score_adj", a, "must be between -1000 and 1000")
	}
	for _, key := range slices.Sorted(maps.Keys(r.GetUnified())) {
		// A key is a file name in the container's cgroup: controller.setting.
		if !strings.Contains(key, ".") || strings.Contains(key, "/") || strings.HasPrefix(key, ".") || strings.HasPrefix(key, "cgroup.") {
			return invalid("unified", key, "not a setting of a cgroup controller")
		}
		if err := noNUL("unified["+key+"]", key+r.GetUnified()[key]); err != nil {
			return err
		}
	}
	return nil
}

// isList says whether text is a list of numbers and ranges as cpuset takes it.
func isList(text string) bool {
	if text == "" {
		return true
	}
	for part := range strings.SplitSeq(text, ",") {
		from, to, ranged := strings.Cut(part, "-")
		a, err := strconv.ParseUint(from, 10, 16)
		if err != nil {
			return false
		}
		if b, err := strconv.ParseUint(to, 10, 16); ranged && (err != nil || b < a) {
			return false
		}
	}
	return true
}
