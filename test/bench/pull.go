package main

import (
	"context"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pullPhase removes an image and pulls it again.
func pullPhase(ctx context.Context, b *bench) error {
	if b.pull == "" {
		progress("no -pull IMAGE, so no pull")
		return nil
	}
	times, cpu := map[*subject][]time.Duration{}, map[*subject]time.Duration{}
	spec := &cri.ImageSpec{Image: b.pull}
	turns := max(b.rounds/3, 1)
	for range turns {
		for _, s := range b.subjects {
			if _, err := s.images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: spec}); err != nil {
				return s.errorf("RemoveImage", err)
			}
			// What the removal frees is freed later.
			if err := pause(ctx, s.settle); err != nil {
				return err
			}
			before, err := s.look(nil)
			if err != nil {
				return err
			}
			begin := time.Now()
			if _, err := s.images.PullImage(ctx, &cri.PullImageRequest{Image: spec}); err != nil {
				return s.errorf("PullImage", err)
			}
			times[s] = append(times[s], time.Since(begin))
			after, err := s.look(before)
			if err != nil {
				return err
			}
			cpu[s] += after.cpu - before.cpu
		}
	}
	for _, s := range b.subjects {
		b.report.set(s, "pull p50", "s", percentile(times[s], 50).Seconds())
		b.report.set(s, "pull, CPU of the runtime", "s", cpu[s].Seconds()/float64(turns))
	}
	return nil
}
