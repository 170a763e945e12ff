package spec

import (
	"github.com/opencontainers/runtime-spec/specs-go"
)

// devices lists the nodes that the container gets beside those that every OCI
// runtime makes, and what it may do with any device.
func devices(in *Input, s *specs.Spec) error {
	seen := map[string]bool{}
	add := func(d specs.LinuxDevice) {
		if !seen[d.Path] {
			seen[d.Path] = true
			s.Linux.Devices = append(s.Linux.Devices, d)
		}
	}
	rules, host := defaultDeviceRules(), in.Resolved.HostDevices
	all := in.privileged() && in.Pod.User == nil && !in.Resolved.NoHostDevices
	if all {
		rules = []specs.LinuxDeviceCgroup{{Allow: true, Type: "a", Access: "rwm"}}
	}
	for _, d := range in.Resolved.Devices {
		add(d.Node)
		if !all {
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Node.Type, Major: &d.Node.Major, Minor: &d.Node.Minor, Access: d.Access})
		}
	}
	if in.privileged() && !all {
		host = publicDevices(host)
		for _, d := range host {
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: "rwm"})
		}
	}
	if in.privileged() {
		for _, d := range host {
			add(d)
		}
	}
	s.Linux.Resources.Devices = rules
	return nil
}

// defaultDeviceRules allow the devices that the OCI runtime-spec has every
// runtime supply, and making nodes, which is of no use without a rule to open
// them.
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	n := func(v int64) *int64 { return &v }
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Type: "a", Access: "rwm"},
		{Allow: true, Type: "c", Access: "m"},
		{Allow: true, Type: "b", Access: "m"},
	}
	for _, d := range [][2]int64{
		{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, // null, zero, full, random, urandom
		{5, 0}, {5, 1}, {5, 2}, // tty, console, ptmx
	} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: n(d[0]), Minor: n(d[1]), Access: "rwm"})
	}
	// 136 to 143 are the slaves of pseudo terminals; devpts uses the first.
	return append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: n(136), Access: "rwm"})
}
