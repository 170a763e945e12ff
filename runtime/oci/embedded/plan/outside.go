package plan

// Outside is a step that a process in the container's user namespace has no right
// to. A second berth-init does it, in the host's: what it makes is mounted nowhere
// and handed over as a descriptor, and only attaching it is left.
type Outside struct{ Step Step }

// UserNamespace opens the user namespace through which layers and volumes are
// shown. It is done outside only.
type UserNamespace struct{ Path string }

// Gives says whether there is something to hand over.
func (s *Outside) Gives() bool {
	switch s.Step.(type) {
	case *RootOverlay, *Mount, *Bind, *Layers:
		return true
	}
	return false
}

func (s *Outside) String() string     { return s.Step.String() }
func (*UserNamespace) String() string { return "user namespace" }

func (*Outside) op() op       { return opOutside }
func (*UserNamespace) op() op { return opUserNamespace }

func (s *UserNamespace) fields(c *codec) { text(c, &s.Path) }

func (s *Outside) fields(c *codec) {
	var o op
	if !c.reading {
		o = s.Step.op()
	}
	number(c, &o)
	if c.reading {
		// Only one deep.
		if s.Step = o.step(); s.Step == nil || o == opOutside {
			s.Step, c.bad = &UserNamespace{}, true
			return
		}
	}
	s.Step.fields(c)
}
