package embedded

// refuse names the first field that is set and that nothing here honours. The
// test of it walks over every field of the spec, so that one of a later version
// of the runtime-spec does not slip by.
func (c *compilation) refuse() error {
	s := c.spec
	switch {
	case s == nil || s.Process == nil:
		return invalid("process", "is missing")
	case s.Linux == nil:
		return invalid("linux", "is missing")
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"solaris", s.Solaris != nil},
		{"windows", s.Windows != nil},
		{"vm", s.VM != nil},
		{"zos", s.ZOS != nil},
		{"freebsd", s.FreeBSD != nil},
		{"linux.netDevices", len(s.Linux.NetDevices) > 0},
		{"linux.intelRdt", s.Linux.IntelRdt != nil},
		{"linux.memoryPolicy", s.Linux.MemoryPolicy != nil},
		{"linux.timeOffsets", len(s.Linux.TimeOffsets) > 0},
	} {
		if f.set {
			return unsupported(f.name)
		}
	}
	return nil
}
