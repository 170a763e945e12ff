package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestResourcesStep(t *testing.T) {
	show := func(s *specs.Spec) any {
		r := s.Linux.Resources
		var out []string
		say := func(name string, v any) { out = append(out, fmt.Sprintf("%s=%v", name, v)) }
		if c := r.CPU; c != nil {
			if c.Period != nil {
				say("period", *c.Period)
			}
			if c.Quota != nil {
				say("quota", *c.Quota)
			}
			if c.Shares != nil {
				say("shares", *c.Shares)
			}
			say("cpus", c.Cpus+"/"+c.Mems)
		}
		if m := r.Memory; m != nil {
			say("memory", *m.Limit)
			if m.Swap != nil {
				say("swap", *m.Swap)
			}
		}
		if len(r.HugepageLimits) > 0 {
			say("huge", r.HugepageLimits)
		}
		if r.Unified != nil {
			say("unified", r.Unified)
		}
		return strings.Join(out, " ")
	}
	noSwap := func(in *Input) { in.Node.Host.Swap = false }
	huge := func(size string, n uint64) func(*Input) {
		return limit(&limits{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: size, Limit: n}}})
	}
	bad := func(l *limits, field string) outcome {
		return outcome{in: on(limit(l)), kind: errdefs.IsInvalidArgument, want: "linux.resources." + field}
	}
	tryEach(t, show, map[string]outcome{
		"none":                               {in: on(limit(nil)), want: ""},
		"zeros are not limits":               {in: on(limit(&limits{})), want: ""},
		"cpu":                                {in: on(limit(&limits{CpuPeriod: 100000, CpuQuota: 20000, CpuShares: 2})), want: "period=100000 quota=20000 shares=2 cpus=/"},
		"unlimited quota":                    {in: on(limit(&limits{CpuQuota: -1})), want: "quota=-1 cpus=/"},
		"sets":                               {in: on(limit(&limits{CpusetCpus: "0-2,5", CpusetMems: "0"})), want: "cpus=0-2,5/0"},
		"memory gets no swap":                {in: on(limit(&limits{MemoryLimitInBytes: 100})), want: "memory=100 swap=100"},
		"memory and swap":                    {in: on(limit(&limits{MemoryLimitInBytes: 100, MemorySwapLimitInBytes: 150})), want: "memory=100 swap=150"},
		"as much swap as there is":           {in: on(limit(&limits{MemoryLimitInBytes: 100, MemorySwapLimitInBytes: -1})), want: "memory=100 swap=-1"},
		"memory where swap is not counted":   {in: on(noSwap, limit(&limits{MemoryLimitInBytes: 100, MemorySwapLimitInBytes: 100})), want: "memory=100"},
		"swap where it is not counted":       {in: on(noSwap, limit(&limits{MemoryLimitInBytes: 100, MemorySwapLimitInBytes: 150})), kind: errdefs.IsFailedPrecondition, want: "swap"},
		"huge pages":                         {in: on(cgroupV2, huge("2MB", 5)), want: "huge=[{2MB 5}]"},
		"no huge pages":                      {in: on(cgroupV2, huge("2MB", 0)), want: "huge=[{2MB 0}]"},
		"no huge pages without a controller": {in: on(huge("2MB", 0)), want: ""},
		"huge pages without a controller":    {in: on(huge("2MB", 5)), kind: errdefs.IsFailedPrecondition, want: "no hugetlb controller"},
		"huge pages of an unknown size":      {in: on(cgroupV2, huge("3MB", 5)), kind: errdefs.IsInvalidArgument, want: "page_size"},
		"keys of v2":                         {in: on(cgroupV2, limit(&limits{Unified: map[string]string{"memory.high": "1"}})), want: "unified=map[memory.high:1]"},
		"keys of v2 on v1":                   {in: on(limit(&limits{Unified: map[string]string{"memory.high": "1"}})), kind: errdefs.IsFailedPrecondition, want: "unified"},
		"a key that leaves the cgroup":       bad(&limits{Unified: map[string]string{"../memory.high": "1"}}, "unified"),
		"a key of the cgroup itself":         bad(&limits{Unified: map[string]string{"cgroup.procs": "1"}}, "unified"),
		"a key that is no setting":           bad(&limits{Unified: map[string]string{"memory": "1"}}, "unified"),
		"a short period":                     bad(&limits{CpuPeriod: 999}, "cpu_period"),
		"a long period":                      bad(&limits{CpuPeriod: 1000001}, "cpu_period"),
		"a negative period":                  bad(&limits{CpuPeriod: -5}, "cpu_period"),
		"a tiny quota":                       bad(&limits{CpuQuota: 5}, "cpu_quota"),
		"a negative quota":                   bad(&limits{CpuQuota: -2}, "cpu_quota"),
		"negative shares":                    bad(&limits{CpuShares: -1}, "cpu_shares"),
		"no list of cpus":                    bad(&limits{CpusetCpus: "0-"}, "cpuset_cpus"),
		"cpus in the wrong order":            bad(&limits{CpusetCpus: "3-1"}, "cpuset_cpus"),
		"no list of nodes":                   bad(&limits{CpusetMems: "a"}, "cpuset_mems"),
		"negative memory":                    bad(&limits{MemoryLimitInBytes: -2}, "memory_limit_in_bytes"),
		"negative swap":                      bad(&limits{MemorySwapLimitInBytes: -2}, "memory_swap_limit_in_bytes"),
		"swap without memory":                bad(&limits{MemorySwapLimitInBytes: 5}, "memory_swap_limit_in_bytes"),
		"less with swap than without":        bad(&limits{MemoryLimitInBytes: 10, MemorySwapLimitInBytes: 5}, "memory_swap_limit_in_bytes"),
		"a score below the lowest":           bad(&limits{OomScoreAdj: -1001}, "oom_score_adj"),
		"a score above the highest":          bad(&limits{OomScoreAdj: 1001}, "oom_score_adj"),
	})
	mighty := func(in *Input) { in.Node.Host.Capabilities = append(in.Node.Host.Capabilities, "CAP_SYS_RESOURCE") }
	tryEach(t, func(s *specs.Spec) any { return fmt.Sprint(*s.Process.OOMScoreAdj, s.Process.Rlimits) }, map[string]outcome{
		"a low score needs a capability":      {in: on(limit(&limits{OomScoreAdj: -998})), want: "-5 [{RLIMIT_NOFILE 4096 1024}]"},
		"a low score with it":                 {in: on(mighty, limit(&limits{OomScoreAdj: -998})), want: "-998 [{RLIMIT_NOFILE 524288 1024}]"},
		"a high score":                        {in: on(limit(&limits{OomScoreAdj: 1000})), want: "1000 [{RLIMIT_NOFILE 4096 1024}]"},
		"no wish is no protection":            {in: on(limit(nil)), want: "0 [{RLIMIT_NOFILE 4096 1024}]"},
		"a soft limit above what can be had":  {in: on(func(in *Input) { in.Node.Host.RlimitMax["RLIMIT_NOFILE"] = 7 }), want: "0 [{RLIMIT_NOFILE 7 7}]"},
		"a limit that Berth knows nothing of": {in: on(func(in *Input) { in.Node.Host.RlimitMax = nil }), want: "0 [{RLIMIT_NOFILE 524288 1024}]"},
	})
}
