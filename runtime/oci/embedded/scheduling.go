package embedded

import (
	"maps"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// sched(7), ioprio_set(2) and personality(2).
var (
	schedulerPolicies = map[specs.LinuxSchedulerPolicy]uint32{
		specs.SchedOther: 0, specs.SchedFIFO: 1, specs.SchedRR: 2, specs.SchedBatch: 3,
		specs.SchedISO: 4, specs.SchedIdle: 5, specs.SchedDeadline: 6,
	}
	schedulerFlags = map[specs.LinuxSchedulerFlag]uint64{
		specs.SchedFlagResetOnFork: 0x01, specs.SchedFlagReclaim: 0x02, specs.SchedFlagDLOverrun: 0x04,
		specs.SchedFlagKeepPolicy: 0x08, specs.SchedFlagKeepParams: 0x10,
		specs.SchedFlagUtilClampMin: 0x20, specs.SchedFlagUtilClampMax: 0x40,
	}
	ioClasses = map[specs.IOPriorityClass]uint32{
		specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3,
	}
	personalities = map[specs.LinuxPersonalityDomain]uint32{
		specs.PerLinux: 0, specs.PerLinux32: 8,
	}
)

func (c *compilation) scheduling(p *specs.Process) error {
	if s := p.Scheduler; s != nil {
		step, err := scheduler(s)
		if err != nil {
			return err
		}
		c.add(step)
	}
	if io := p.IOPriority; io != nil {
		class, ok := ioClasses[io.Class]
		if !ok || io.Priority < 0 || io.Priority > 7 {
			return invalid("process.ioPriority", "is "+string(io.Class)+" "+strconv.Itoa(io.Priority))
		}
		c.add(&plan.IOPriority{Value: class<<13 | uint32(io.Priority)})
	}
	if pers := c.spec.Linux.Personality; pers != nil {
		domain, ok := personalities[pers.Domain]
		if !ok || len(pers.Flags) > 0 {
			return invalid("linux.personality", "has an unknown domain or flag")
		}
		c.add(&plan.Personality{Value: domain})
	}
	return nil
}

func scheduler(s *specs.Scheduler) (plan.Step, error) {
	policy, ok := schedulerPolicies[s.Policy]
	if !ok {
		return nil, invalid("process.scheduler.policy", "is "+string(s.Policy))
	}
	if s.Priority < 0 {
		return nil, invalid("process.scheduler.priority", "is negative")
	}
	step := &plan.Scheduler{
		Policy: policy, Nice: s.Nice, Priority: uint32(s.Priority),
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period,
	}
	for _, f := range s.Flags {
		bit, ok := schedulerFlags[f]
		if !ok {
			return nil, invalid("process.scheduler.flags", "has "+string(f))
		}
		step.Flags |= bit
	}
	return step, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
