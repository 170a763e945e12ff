package plan

// version changes with the meaning of any step. Daemon and berth-init come
// from one build; a plan of another one was written before an upgrade.
const version = 1

const magic = "BPLN"

// MaxSize bounds the bytes of a plan. Arguments and environment are most of a
// large one, and the kernel takes 2 MiB of those.
const MaxSize = 8 << 20

// Error is why bytes are not a plan.
type Error string

func (e Error) Error() string { return "plan: " + string(e) }

// Encode returns the bytes of the steps. A text with a NUL byte is an error: no
// system call would see what comes after it.
func Encode(steps []Step) ([]byte, error) {
	c := &codec{buf: append(make([]byte, 0, 4096), magic...)}
	c.put(version)
	for _, s := range steps {
		c.put(uint64(s.op()))
		if s.fields(c); c.bad {
			return nil, Error("NUL byte in step " + s.String())
		}
	}
	if len(c.buf) > MaxSize {
		return nil, Error("too large")
	}
	return c.buf, nil
}

// Decode returns the steps of a plan.
func Decode(b []byte) ([]Step, error) {
	if len(b) > MaxSize {
		return nil, Error("too large")
	}
	if len(b) < len(magic) || string(b[:len(magic)]) != magic {
		return nil, Error("not a plan")
	}
	c := &codec{buf: b[len(magic):], reading: true}
	if v := c.get(); v != version {
		return nil, Error("of another version of Berth")
	}
	steps := make([]Step, 0, 64)
	for len(c.buf) > 0 {
		var o op
		number(c, &o)
		s := o.step()
		if s == nil {
			return nil, Error("unknown step")
		}
		if s.fields(c); c.bad {
			return nil, Error("damaged in step " + s.String())
		}
		steps = append(steps, s)
	}
	return steps, nil
}
