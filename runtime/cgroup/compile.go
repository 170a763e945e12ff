package cgroup

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	lib "github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// compiler turns OCI resources into settings, in an order in which the kernel
// takes them. A zero means "not set", as in the CRI, unless the OCI runtime
// specification gives it a meaning (pids, huge pages).
type compiler struct {
	m    *Manager
	live *Cgroup // the cgroup that is changed; nil for one being made
	out  []setting
}

func compile(res *specs.LinuxResources, m *Manager, live *Cgroup) ([]setting, error) {
	c := compiler{m: m, live: live}
	for _, step := range []func(*specs.LinuxResources) error{
		c.cpu, c.cpuset, c.memory, c.pids, c.hugepages, c.blockIO, c.network, c.rdma,
		c.unified, // last: it may override any of the above
	} {
		if err := step(res); err != nil {
			return nil, err
		}
	}
	return c.out, nil
}

// v2 says which interface a controller has here.
func (c *compiler) v2(controller string) bool {
	if i, ok := c.m.place[controller]; ok {
		return c.m.trees[i].v2
	}
	return c.m.mode == V2
}

func (c *compiler) add(s setting) { c.out = append(c.out, s) }

// now is the present value of a file, "" in a cgroup that is being made.
func (c *compiler) now(controller, file string) string {
	if c.live == nil {
		return ""
	}
	return c.live.now(controller, file)
}

func unsupported(field, why string) error {
	return fmt.Errorf("%s: %s: %w", field, why, errdefs.ErrNotImplemented)
}

func invalid(field, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", field, fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
}

func itoa(n int64) string  { return strconv.FormatInt(n, 10) }
func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (c *compiler) cpuset(res *specs.LinuxResources) error {
	if res.CPU == nil {
		return nil
	}
	if s := res.CPU.Cpus; s != "" {
		c.add(setting{field: "cpu.cpus", controller: "cpuset", file: "cpuset.cpus", value: s})
	}
	if s := res.CPU.Mems; s != "" {
		c.add(setting{field: "cpu.mems", controller: "cpuset", file: "cpuset.mems", value: s})
	}
	return nil
}

func (c *compiler) pids(res *specs.LinuxResources) error {
	if res.Pids == nil || res.Pids.Limit == nil {
		return nil
	}
	s := setting{field: "pids.limit", controller: "pids", file: "pids.max", value: itoa(*res.Pids.Limit)}
	if *res.Pids.Limit < 0 {
		s.value, s.initial = "max", true
	}
	c.add(s)
	return nil
}

var pageSize = regexp.MustCompile(`^[1-9][0-9]*[KMG]B$`)

// hugepages limits both the use and the reservation of huge pages (5.7): with
// the first alone, a process that maps too many is killed by SIGBUS later.
func (c *compiler) hugepages(res *specs.LinuxResources) error {
	for _, h := range res.HugepageLimits {
		field := fmt.Sprintf("hugepageLimits[%s]", h.Pagesize)
		if !pageSize.MatchString(h.Pagesize) {
			return invalid(field, "page size must be like 2MB")
		}
		suffix, none := ".limit_in_bytes", "-1"
		if c.v2("hugetlb") {
			suffix, none = ".max", "max"
		}
		s := setting{field: field, controller: "hugetlb", value: utoa(h.Limit)}
		if h.Limit >= 1<<63-1 {
			s.value, s.initial = none, true
		}
		// The kubelet always sends a limit for each page size, 0 for pods
		// that ask for none, also where the controller is missing.
		s.optional = h.Limit == 0 || s.initial
		s.file = "hugetlb." + h.Pagesize + suffix
		c.add(s)
		s.optional = true
		s.file = "hugetlb." + h.Pagesize + ".rsvd" + suffix
		c.add(s)
	}
	return nil
}

func (c *compiler) network(res *specs.LinuxResources) error {
	if res.Network == nil {
		return nil
	}
	if id := res.Network.ClassID; id != nil {
		c.add(setting{field: "network.classID", controller: "net_cls", file: "net_cls.classid", value: utoa(uint64(*id)), initial: *id == 0})
	}
	for _, p := range res.Network.Priorities {
		if p.Name == "" || strings.ContainsAny(p.Name, " \n") {
			return invalid("network.priorities", "bad interface name %q", p.Name)
		}
		c.add(setting{
			field: "network.priorities[" + p.Name + "]", controller: "net_prio", file: "net_prio.ifpriomap",
			value: p.Name + " " + utoa(uint64(p.Priority)), undo: keyed(p.Name, p.Name+" 0"),
		})
	}
	return nil
}

func (c *compiler) rdma(res *specs.LinuxResources) error {
	for device, limit := range res.Rdma {
		if device == "" || strings.ContainsAny(device, " \n") {
			return invalid("rdma", "bad device name %q", device)
		}
		line := device
		if limit.HcaHandles != nil {
			line += " hca_handle=" + utoa(uint64(*limit.HcaHandles))
		}
		if limit.HcaObjects != nil {
			line += " hca_object=" + utoa(uint64(*limit.HcaObjects))
		}
		if line == device {
			continue
		}
		c.add(setting{
			field: "rdma[" + device + "]", controller: "rdma", file: "rdma.max", value: line,
			undo: keyed(device, device+" hca_handle=max hca_object=max"),
		})
	}
	return nil
}

// unified writes cgroup2 files by name. What moves, kills or freezes processes
// or hands out controllers is not a resource.
func (c *compiler) unified(res *specs.LinuxResources) error {
	keys := make([]string, 0, len(res.Unified))
	for k := range res.Unified {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, file := range keys {
		field := "unified[" + file + "]"
		controller, rest, ok := strings.Cut(file, ".")
		if !ok || controller == "" || rest == "" || strings.Contains(file, "/") {
			return invalid(field, "not the name of a cgroup2 file")
		}
		if c.m.unify < 0 {
			return unsupported(field, "this host has no cgroup2")
		}
		if controller == "cgroup" {
			if !strings.HasPrefix(rest, "max.") && rest != "pressure" {
				return invalid(field, "not a resource")
			}
			controller = ""
		} else if i, ok := c.m.place[controller]; ok && i != c.m.unify {
			return unsupported(field, "the "+controller+" controller is on cgroup v1 here")
		}
		for line := range strings.Lines(res.Unified[file]) {
			line = strings.TrimRight(line, "\n")
			c.add(setting{field: field, controller: controller, file: file, value: line, undo: unifiedUndo(file, line)})
		}
	}
	return nil
}

// unifiedUndo knows the files with a line per device. "8:0 rbps=1" replaces
// one line of several, so its undo is that line and not the whole file.
func unifiedUndo(file, line string) func([]byte) string {
	key, _, _ := strings.Cut(line, " ")
	switch file {
	case "io.max":
		return keyed(key, key+" rbps=max wbps=max riops=max wiops=max")
	case "io.latency":
		return keyed(key, key+" target=0")
	case "io.weight", "io.bfq.weight":
		if !strings.Contains(key, ":") {
			return keyed("default", "default 100")
		}
		return keyed(key, key+" default")
	case "rdma.max":
		return keyed(key, key+" hca_handle=max hca_object=max")
	case "misc.max":
		return keyed(key, key+" max")
	}
	return nil
}

// weight converts v1's 2…262144 shares to v2's 1…10000 as runc and crun do,
// so that a container weighs the same under each of them.
func weight(shares uint64) uint64 { return lib.ConvertCPUSharesToCgroupV2Value(shares) }
