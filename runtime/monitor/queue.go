package monitor

import "sync"

// queue hands exits to a function, one at a time, without holding up who adds
// them.
type queue struct {
	mu     sync.Mutex // guards what follows
	more   *sync.Cond
	exits  []Exit
	closed bool
	done   chan struct{}
}

func newQueue(f func(Exit)) *queue {
	q := &queue{done: make(chan struct{})}
	q.more = sync.NewCond(&q.mu)
	go q.run(f)
	return q
}

func (q *queue) add(x Exit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.exits = append(q.exits, x)
	q.more.Signal()
}

// close ends the queue after the call that is in progress. It must not be called
// from the function.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.more.Signal()
	q.mu.Unlock()
	<-q.done
}

func (q *queue) run(f func(Exit)) {
	defer close(q.done)
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for len(q.exits) == 0 && !q.closed {
			q.more.Wait()
		}
		if q.closed {
			return
		}
		batch := q.exits
		q.exits = nil
		q.mu.Unlock()
		for _, x := range batch {
			f(x)
		}
		q.mu.Lock()
	}
}
