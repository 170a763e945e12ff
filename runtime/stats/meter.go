package stats

import (
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// rateWindow is the shortest time over which a rate of CPU use is given: two
// clients that ask right after one another must not get the noise in between.
const rateWindow = time.Second

// Meter follows one cgroup for as long as its container runs: its files are
// opened at the first reading, and two earlier readings are remembered for the
// rate of CPU use, so nothing runs in between. The zero value is ready.
type Meter struct {
	mu           sync.Mutex
	reader       *Reader // guarded by mu, like the rest; nil before the first reading
	closed       bool
	older, newer Sample // older is before newer by rateWindow or more
}

// Reading is a Sample and, from the second one on, the rate.
type Reading struct {
	Sample
	NanoCores *uint64 // billionths of a core, over the last rateWindow or more
}

// Read takes a reading with the parts asked for. ErrNotFound when the cgroup is
// gone or the meter closed.
func (m *Meter) Read(find Finder, parts Parts) (Reading, error) {
	r, err := m.open(find)
	if err != nil {
		return Reading{}, err
	}
	s, err := r.Read(parts)
	if err != nil {
		return Reading{}, err
	}
	return Reading{Sample: s, NanoCores: m.rate(s)}, nil
}

func (m *Meter) open(find Finder) (*Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, fmt.Errorf("read stats: the container has ended: %w", errdefs.ErrNotFound)
	}
	if m.reader == nil {
		m.reader = NewReader(find)
	}
	return m.reader, nil
}

// rate is the use since the newest remembered sample that is old enough.
func (m *Meter) rate(s Sample) *uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.At.Sub(m.newer.At) >= rateWindow {
		// Only the times and the CPU are asked for again.
		m.older, m.newer = m.newer, Sample{At: s.At, CPU: s.CPU}
	}
	n, ok := NanoCores(m.older, s)
	if !ok {
		return nil
	}
	return &n
}

// Close ends the meter.
func (m *Meter) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.reader != nil {
		m.reader.Close()
		m.reader = nil
	}
}
