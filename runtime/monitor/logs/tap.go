package logs

import "slices"

// Tap gets a copy of all output from the moment on that it was added. Output is
// called for each batch, before the next one is read from the container, so it
// must not wait for anybody. After an error it is not called again.
type Tap interface {
	Output(s Stream, b []byte) error
}

// AddTap adds a tap. What was read before is not given to it.
func (l *Log) AddTap(t Tap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taps = append(l.taps, t)
}

// RemoveTap removes a tap; when it returns, Output is not running.
func (l *Log) RemoveTap(t Tap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taps = slices.DeleteFunc(l.taps, func(other Tap) bool { return other == t })
}

// tap gives a batch to all taps.
func (l *Log) tap(s Stream, b []byte) {
	l.taps = slices.DeleteFunc(l.taps, func(t Tap) bool { return t.Output(s, b) != nil })
}
