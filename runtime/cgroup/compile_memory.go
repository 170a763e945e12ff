package cgroup

import (
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"
	lib "github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func (c *compiler) memory(res *specs.LinuxResources) error {
	m := res.Memory
	if m == nil {
		return nil
	}
	// Gone from the kernel (5.4) or always on (5.11).
	//lint:ignore SA1019 it is read to be refused
	if value(m.Kernel) > 0 || value(m.KernelTCP) > 0 {
		return unsupported("memory.kernel", "the kernel has no such limit any more")
	}
	if m.UseHierarchy != nil && !*m.UseHierarchy {
		return unsupported("memory.useHierarchy", "it cannot be turned off")
	}
	if err := c.checkUsage(m); err != nil {
		return err
	}
	if c.v2("memory") {
		return c.memoryV2(m)
	}
	return c.memoryV1(m)
}

// memoryV1 keeps the kernel's rule "limit ≤ limit with swap" true at every
// moment: whichever grows goes first.
func (c *compiler) memoryV1(m *specs.LinuxMemory) error {
	limit, swap := value(m.Limit), value(m.Swap)
	if limit < 0 && swap == 0 {
		swap = -1 // else the old limit with swap would refuse it
	}
	if limit > 0 && swap > 0 && swap < limit {
		return invalid("memory.swap", "%d is below memory.limit %d (it counts both)", swap, limit)
	}
	both := setting{
		field: "memory.swap", controller: "memory", file: "memory.memsw.limit_in_bytes",
		value: itoa(max(swap, -1)), initial: swap < 0,
		// Without swap accounting there is no file: nothing is lost when no
		// swap at all or no bound was asked for.
		optional: swap < 0 || swap == limit,
	}
	grows := false
	if old, err := strconv.ParseInt(c.now("memory", both.file), 10, 64); err == nil {
		grows = swap < 0 || swap > old
	}
	if swap != 0 && grows {
		c.add(both)
	}
	if limit != 0 {
		c.add(setting{field: "memory.limit", controller: "memory", file: "memory.limit_in_bytes", value: itoa(max(limit, -1)), initial: limit < 0})
	}
	if swap != 0 && !grows {
		c.add(both)
	}
	if n := value(m.Reservation); n != 0 {
		c.add(setting{field: "memory.reservation", controller: "memory", file: "memory.soft_limit_in_bytes", value: itoa(max(n, -1)), initial: n < 0})
	}
	if m.Swappiness != nil {
		c.add(setting{field: "memory.swappiness", controller: "memory", file: "memory.swappiness", value: utoa(*m.Swappiness)})
	}
	if m.DisableOOMKiller != nil {
		s := setting{field: "memory.disableOOMKiller", controller: "memory", file: "memory.oom_control", value: "0", initial: true}
		if *m.DisableOOMKiller {
			s.value, s.initial = "1", false
		}
		s.undo = func(old []byte) string {
			n, _, _ := parseKey(old, "oom_kill_disable")
			return utoa(n)
		}
		c.add(s)
	}
	return nil
}

func (c *compiler) memoryV2(m *specs.LinuxMemory) error {
	if m.Swappiness != nil {
		return unsupported("memory.swappiness", "cgroup v2 has none")
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		return unsupported("memory.disableOOMKiller", "cgroup v2 cannot")
	}
	limit, swap := max(value(m.Limit), -1), max(value(m.Swap), -1)
	base := limit // what swap counts from
	if swap > 0 && limit == 0 {
		base = -1
		if n, err := strconv.ParseInt(c.now("memory", "memory.max"), 10, 64); err == nil {
			base = n
		}
	}
	only, err := lib.ConvertMemorySwapToCgroupV2Value(swap, base)
	if err != nil {
		return invalid("memory.swap", "%v", err)
	}
	if swap != 0 || limit < 0 {
		s := setting{field: "memory.swap", controller: "memory", file: "memory.swap.max", value: itoa(only)}
		if only < 0 {
			s.value, s.initial = "max", true
		}
		// Without swap there is no file, and nothing to bound.
		s.optional = only <= 0
		c.add(s)
	}
	if limit != 0 {
		s := setting{field: "memory.limit", controller: "memory", file: "memory.max", value: itoa(limit)}
		if limit < 0 {
			s.value, s.initial = "max", true
		}
		c.add(s)
	}
	if n := value(m.Reservation); n != 0 {
		// v1's "no soft limit" protects nothing, which is 0 here.
		c.add(setting{field: "memory.reservation", controller: "memory", file: "memory.low", value: itoa(max(n, 0)), initial: n < 0})
	}
	return nil
}

// checkUsage honours memory.checkBeforeUpdate: cgroup v2 takes a limit below
// the usage and kills for it.
func (c *compiler) checkUsage(m *specs.LinuxMemory) error {
	if !value(m.CheckBeforeUpdate) || value(m.Limit) <= 0 || c.live == nil {
		return nil
	}
	file := "memory.usage_in_bytes"
	if c.v2("memory") {
		file = "memory.current"
	}
	usage, err := strconv.ParseInt(c.now("memory", file), 10, 64)
	if err != nil || usage <= *m.Limit {
		return nil
	}
	return fmt.Errorf("memory.limit: %d is below the present usage of %d: %w", *m.Limit, usage, errdefs.ErrFailedPrecondition)
}
