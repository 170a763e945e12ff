package plan

// codec walks over the fields of a step in one direction: each step names its
// fields once, for writing and for reading. Writing only looks at them: the
// texts of a step can be those of a spec that others read at the same time.
type codec struct {
	buf     []byte // writing: what is written; reading: what is left
	reading bool
	bad     bool // what was met cannot be said in this form
}

type integer interface {
	~int | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

func number[T integer](c *codec, v *T) {
	if !c.reading {
		c.put(uint64(*v))
		return
	}
	n := c.get()
	if *v = T(n); uint64(*v) != n {
		c.bad = true
	}
}

func (c *codec) put(n uint64) {
	for ; n >= 0x80; n >>= 7 {
		c.buf = append(c.buf, byte(n)|0x80)
	}
	c.buf = append(c.buf, byte(n))
}

func (c *codec) get() (n uint64) {
	for shift := 0; shift < 64 && len(c.buf) > 0; shift += 7 {
		b := c.buf[0]
		c.buf = c.buf[1:]
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	c.bad = true
	return 0
}

// length reads the length of what follows; each element takes at least a byte,
// so a length beyond the bytes that are left is a lie.
func (c *codec) length() int {
	n := c.get()
	if n > uint64(len(c.buf)) {
		c.bad = true
		return 0
	}
	return int(n)
}

func flag(c *codec, v *bool) {
	n := uint8(0)
	if !c.reading && *v {
		n = 1
	}
	number(c, &n)
	if c.reading {
		*v = n == 1
	}
	c.bad = c.bad || n > 1
}

// text is a string that a system call can take: it holds no NUL.
func text(c *codec, v *string) {
	if !c.reading {
		c.put(uint64(len(*v)))
		c.buf = append(c.buf, *v...)
	} else {
		n := c.length()
		*v, c.buf = string(c.buf[:n]), c.buf[n:]
	}
	for i := range len(*v) {
		c.bad = c.bad || (*v)[i] == 0
	}
}

func octets(c *codec, v *[]byte) {
	if !c.reading {
		c.put(uint64(len(*v)))
		c.buf = append(c.buf, *v...)
		return
	}
	n := c.length()
	*v, c.buf = c.buf[:n:n], c.buf[n:]
}

func list[T any](c *codec, v *[]T, element func(*codec, *T)) {
	n := len(*v)
	if c.reading {
		// Grown as the elements come, not by the length alone: an element in
		// memory can be many times its bytes.
		n, *v = c.length(), nil
	} else {
		c.put(uint64(n))
	}
	for i := 0; i < n && !c.bad; i++ {
		if c.reading {
			var zero T
			*v = append(*v, zero)
		}
		element(c, &(*v)[i])
	}
}
