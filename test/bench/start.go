package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// startPhase brings pods up and down one at a time.
func startPhase(ctx context.Context, b *bench) error {
	type samples struct{ run, create, start, total, remove []time.Duration }
	all := map[*subject]*samples{}
	for _, s := range b.subjects {
		all[s] = &samples{}
	}
	for range b.rounds {
		for _, s := range b.subjects {
			x := all[s]
			for range b.perRound {
				p, err := s.start(ctx)
				if err != nil {
					return err
				}
				begin := time.Now()
				if err := s.remove(ctx, p); err != nil {
					return err
				}
				x.remove = append(x.remove, time.Since(begin))
				x.run = append(x.run, p.runTime)
				x.create = append(x.create, p.createTime)
				x.start = append(x.start, p.started)
				x.total = append(x.total, p.total())
			}
		}
	}
	for _, s := range b.subjects {
		x := all[s]
		b.report.times(s, "RunPodSandbox", x.run, true)
		b.report.times(s, "CreateContainer", x.create, true)
		b.report.times(s, "StartContainer", x.start, true)
		b.report.times(s, "whole pod start", x.total, true)
		b.report.times(s, "stop + remove a pod", x.remove, true)
	}
	return nil
}

// execPhase runs a command in a container, alone and with others at once.
func execPhase(ctx context.Context, b *bench) error {
	pods := map[*subject]*pod{}
	for _, s := range b.subjects {
		p, err := s.start(ctx)
		if err != nil {
			return err
		}
		pods[s] = p
	}
	alone, together := map[*subject][]time.Duration{}, map[*subject][]time.Duration{}
	rateAlone, rateTogether := map[*subject]rate{}, map[*subject]rate{}
	for range b.rounds {
		for _, s := range b.subjects {
			one := func(ctx context.Context) error { return s.exec(ctx, pods[s].container) }
			d, r, err := repeat(ctx, 1, b.execs, one)
			if err != nil {
				return err
			}
			alone[s], rateAlone[s] = append(alone[s], d...), rateAlone[s].plus(r)
			if d, r, err = repeat(ctx, b.parallel, b.execs*b.parallel, one); err != nil {
				return err
			}
			together[s], rateTogether[s] = append(together[s], d...), rateTogether[s].plus(r)
		}
	}
	for _, s := range b.subjects {
		crowd := fmt.Sprintf("ExecSync true, %d at once", b.parallel)
		b.report.times(s, "ExecSync true", alone[s], true)
		b.report.set(s, "ExecSync true", "/s", rateAlone[s].perSecond())
		b.report.times(s, crowd, together[s], false)
		b.report.set(s, crowd, "/s", rateTogether[s].perSecond())
		if err := s.remove(ctx, pods[s]); err != nil {
			return err
		}
	}
	return nil
}

// burstPhase brings many pods up at once, and down at once.
func burstPhase(ctx context.Context, b *bench) error {
	const turns = 2
	up, down := map[*subject]rate{}, map[*subject]rate{}
	for range turns {
		for _, s := range b.subjects {
			pods := make(chan *pod, b.burst)
			_, r, err := repeat(ctx, b.parallel, b.burst, func(ctx context.Context) error {
				p, err := s.start(ctx)
				pods <- p
				return err
			})
			if err != nil {
				return err
			}
			up[s] = up[s].plus(r)
			if _, r, err = repeat(ctx, b.parallel, b.burst, func(ctx context.Context) error {
				return s.remove(ctx, <-pods)
			}); err != nil {
				return err
			}
			down[s] = down[s].plus(r)
		}
	}
	for _, s := range b.subjects {
		b.report.set(s, "burst of pods, up", "/s", up[s].perSecond())
		b.report.set(s, "burst of pods, down", "/s", down[s].perSecond())
	}
	return nil
}

// rate is how many calls took how long.
type rate struct {
	calls int
	time  time.Duration
}

func (r rate) plus(o rate) rate { return rate{r.calls + o.calls, r.time + o.time} }

func (r rate) perSecond() float64 { return float64(r.calls) / r.time.Seconds() }

// repeat makes n calls with a number of callers at once and returns how long
// each took. The first error ends it.
func repeat(ctx context.Context, callers, n int, call func(context.Context) error) ([]time.Duration, rate, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)

	var mu sync.Mutex // guards times
	var times []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for range min(callers, n) {
		wg.Go(func() {
			for range work {
				if ctx.Err() != nil {
					return
				}
				begin := time.Now()
				if err := call(ctx); err != nil {
					cancel(err)
					return
				}
				took := time.Since(begin)
				mu.Lock()
				times = append(times, took)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return times, rate{n, time.Since(start)}, context.Cause(ctx)
}
