package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// densityPhase fills each runtime with pods, one runtime at a time, and looks
// at what so many cost: memory, processes, lists, stats, idle CPU, a restart.
func densityPhase(ctx context.Context, b *bench) error {
	for _, s := range b.subjects {
		if err := b.density(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) density(ctx context.Context, s *subject) error {
	if err := pause(ctx, s.settle); err != nil {
		return err
	}
	before, err := s.look(nil)
	if err != nil {
		return err
	}
	progress("density: %d pods on %s", b.pods, s.name)
	pods := make(chan *pod, b.pods)
	if _, _, err := repeat(ctx, b.parallel, b.pods, func(ctx context.Context) error {
		p, err := s.start(ctx)
		pods <- p
		return err
	}); err != nil {
		return err
	}
	// As before the pods: garbage of what went on until now is collected some
	// time later, and is not what a pod costs.
	if err := pause(ctx, s.settle); err != nil {
		return err
	}
	after, err := s.look(before)
	if err != nil {
		return err
	}
	n := float64(b.pods)
	b.report.set(s, "PSS without pods", "MiB", mebi(before.pss))
	b.report.set(s, "PSS per pod", "KiB", (mebi(after.pss)-mebi(before.pss))*1024/n)
	b.report.set(s, "processes per pod", "", float64(len(after.processes)-len(before.processes))/n)

	if err := b.lists(ctx, s); err != nil {
		return err
	}
	if b.idle > 0 {
		if err := b.idleCPU(ctx, s, before); err != nil {
			return err
		}
	}
	if err := b.restartDaemon(ctx, s); err != nil {
		return err
	}
	_, _, err = repeat(ctx, b.parallel, b.pods, func(ctx context.Context) error { return s.remove(ctx, <-pods) })
	return err
}

func mebi(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// lists times the calls that the kubelet makes all day.
func (b *bench) lists(ctx context.Context, s *subject) error {
	calls := []struct {
		figure string
		call   func(context.Context) error
	}{
		{"ListPodSandbox + ListContainers", s.list},
		{"stats of all containers", func(ctx context.Context) error {
			_, err := s.runtime.ListContainerStats(ctx, &cri.ListContainerStatsRequest{})
			return err
		}},
		{"stats of all pods", func(ctx context.Context) error {
			_, err := s.runtime.ListPodSandboxStats(ctx, &cri.ListPodSandboxStatsRequest{})
			return err
		}},
	}
	for _, c := range calls {
		var times []time.Duration
		for range 10 {
			begin := time.Now()
			if err := c.call(ctx); err != nil {
				// A runtime without the call, or whose call fails (containerd
				// for pods without a cgroup parent), has no such figure.
				if !absent(err) {
					progress("%v", s.errorf(c.figure, err))
				}
				break
			}
			times = append(times, time.Since(begin))
			// Not so fast that a cache of less than this helps.
			if err := pause(ctx, min(s.settle, 200*time.Millisecond)); err != nil {
				return err
			}
		}
		b.report.times(s, c.figure, times, false)
	}
	return nil
}

func (s *subject) list(ctx context.Context) error {
	if _, err := s.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{}); err != nil {
		return err
	}
	_, err := s.runtime.ListContainers(ctx, &cri.ListContainersRequest{})
	return err
}

// idleCPU polls as a kubelet does and looks at the CPU time that passes.
func (b *bench) idleCPU(ctx context.Context, s *subject, before *look) error {
	start, err := s.look(before)
	if err != nil {
		return err
	}
	begin := time.Now()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for i := 0; time.Since(begin) < b.idle; i++ {
		if err := s.poll(ctx, i); err != nil {
			return s.errorf("polling", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-second.C:
		}
	}
	end, err := s.look(before)
	if err != nil {
		return err
	}
	b.report.set(s, "CPU under a kubelet's polling", "% of a core", 100*(end.cpu-start.cpu).Seconds()/time.Since(begin).Seconds())
	return nil
}

// poll is second i of an idle kubelet: the generic PLEG lists each second,
// Status comes every five, stats every ten, images and disks every thirty.
func (s *subject) poll(ctx context.Context, i int) error {
	if err := s.list(ctx); err != nil {
		return err
	}
	if i%5 == 0 {
		if _, err := s.runtime.Status(ctx, &cri.StatusRequest{}); err != nil {
			return err
		}
	}
	if i%10 == 0 {
		if _, err := s.runtime.ListContainerStats(ctx, &cri.ListContainerStatsRequest{}); err != nil && !absent(err) {
			return err
		}
	}
	if i%30 == 0 {
		if _, err := s.images.ListImages(ctx, &cri.ListImagesRequest{}); err != nil {
			return err
		}
		if _, err := s.images.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{}); err != nil {
			return err
		}
	}
	return nil
}

// restartDaemon runs the user's command and waits until the runtime tells the
// truth again: all our pods ready, all our containers running.
func (b *bench) restartDaemon(ctx context.Context, s *subject) error {
	command := b.restart[s.name]
	if command == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	begin := time.Now()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return s.errorf("restart: "+command, err)
	}
	for {
		err := s.allRunning(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return s.errorf("after the restart", err)
		}
		// A new connection each time: gRPC waits a second before it tries a
		// refused one again.
		s.conn.Close()
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
		if err := s.dial(); err != nil {
			return err
		}
	}
	b.report.set(s, "daemon restart", "ms", milliseconds(time.Since(begin)))
	return nil
}

func (s *subject) allRunning(ctx context.Context) error {
	mine := map[string]string{label: "true"}
	pods, err := s.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
		LabelSelector: mine, State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY},
	}})
	if err != nil {
		return err
	}
	containers, err := s.runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		LabelSelector: mine, State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING},
	}})
	if err != nil {
		return err
	}
	if len(pods.Items) != s.pods || len(containers.Containers) != s.pods {
		return fmt.Errorf("%d of %d pods ready, %d containers running", len(pods.Items), s.pods, len(containers.Containers))
	}
	return nil
}
