package cgroup

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const defaultPeriod = 100000 // µs, of a new cgroup

func (c *compiler) cpu(res *specs.LinuxResources) error {
	cpu := res.CPU
	if cpu == nil {
		return nil
	}
	v2 := c.v2("cpu")
	idle := func(on bool) {
		if cpu.Idle != nil && (*cpu.Idle == 1) == on {
			c.add(setting{field: "cpu.idle", controller: "cpu", file: "cpu.idle", value: itoa(*cpu.Idle), initial: !on})
		}
	}
	if cpu.Idle != nil && *cpu.Idle != 0 && *cpu.Idle != 1 {
		return invalid("cpu.idle", "%d is neither 0 nor 1", *cpu.Idle)
	}
	idle(false) // before the shares: an idle cgroup refuses them
	if n := value(cpu.Shares); n != 0 {
		n = min(max(n, 2), 262144) // a weight beyond the scale is the end of it
		s := setting{field: "cpu.shares", controller: "cpu", file: "cpu.shares", value: utoa(n), initial: n == 1024}
		if v2 {
			s.file, s.value = "cpu.weight", utoa(weight(n))
		}
		c.add(s)
	}
	idle(true)
	if v2 {
		c.bandwidthV2(cpu)
	} else {
		c.bandwidthV1(cpu)
	}
	return c.realtime(cpu, v2)
}

// bandwidthV1 writes quota, period and burst. Each must fit the others and the
// parent's at every moment; without a quota everything fits. So a change of
// more than the quota lifts the quota first, for some microseconds.
func (c *compiler) bandwidthV1(cpu *specs.LinuxCPU) {
	quota := setting{field: "cpu.quota", controller: "cpu", file: "cpu.cfs_quota_us", value: "-1", initial: true}
	limited := value(cpu.Quota) > 0
	if c.live != nil && limited && (value(cpu.Period) != 0 || cpu.Burst != nil) {
		c.add(quota)
	}
	if n := value(cpu.Period); n != 0 {
		c.add(setting{field: "cpu.period", controller: "cpu", file: "cpu.cfs_period_us", value: utoa(n), initial: n == defaultPeriod})
	}
	if cpu.Burst != nil {
		c.add(setting{field: "cpu.burst", controller: "cpu", file: "cpu.cfs_burst_us", value: utoa(*cpu.Burst), initial: *cpu.Burst == 0})
	}
	if value(cpu.Quota) != 0 {
		if limited {
			quota.value, quota.initial = itoa(*cpu.Quota), false
		}
		c.add(quota)
	}
}

// bandwidthV2 is the same for cpu.max, which takes quota and period in one.
func (c *compiler) bandwidthV2(cpu *specs.LinuxCPU) {
	quota, period := "", ""
	if n := value(cpu.Quota); n > 0 {
		quota = itoa(n)
	} else if n < 0 {
		quota = "max"
	}
	if n := value(cpu.Period); n != 0 {
		period = utoa(n)
	}
	burst := func() {
		if cpu.Burst != nil {
			c.add(setting{field: "cpu.burst", controller: "cpu", file: "cpu.max.burst", value: utoa(*cpu.Burst), initial: *cpu.Burst == 0})
		}
	}
	if quota == "" && period == "" {
		burst()
		return
	}
	if quota == "" { // the kernel wants it before the period
		quota, _, _ = strings.Cut(c.now("cpu", "cpu.max"), " ")
		if quota == "" {
			quota = "max"
		}
	}
	s := setting{field: "cpu.quota", controller: "cpu", file: "cpu.max"}
	if cpu.Burst != nil && quota != "max" {
		lifted := s
		lifted.value, lifted.initial = "max", c.live == nil
		c.add(lifted)
		burst()
	} else {
		defer burst()
	}
	s.value = quota
	if period != "" {
		s.value += " " + period
	}
	s.initial = quota == "max" && (period == "" || value(cpu.Period) == defaultPeriod)
	c.add(s)
}

func (c *compiler) realtime(cpu *specs.LinuxCPU, v2 bool) error {
	if value(cpu.RealtimePeriod) == 0 && value(cpu.RealtimeRuntime) == 0 {
		return nil
	}
	if v2 {
		return unsupported("cpu.realtimeRuntime", "cgroup v2 has no real-time limits")
	}
	if n := value(cpu.RealtimePeriod); n != 0 {
		c.add(setting{field: "cpu.realtimePeriod", controller: "cpu", file: "cpu.rt_period_us", value: utoa(n)})
	}
	if n := value(cpu.RealtimeRuntime); n != 0 {
		c.add(setting{field: "cpu.realtimeRuntime", controller: "cpu", file: "cpu.rt_runtime_us", value: itoa(n)})
	}
	return nil
}
