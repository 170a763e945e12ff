package pod

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/namespace"
	"github.com/berth-cri/berth/runtime/index"
	"github.com/berth-cri/berth/runtime/monitor"
)

// Restore takes up the pods of an earlier daemon. A record that cannot be read
// is set aside and reported; it never stops the others.
func (s *Service) Restore() error {
	pods, err := index.Restore(s.StateDir, recordFile, load, tidy, s.Log)
	if err != nil {
		return err
	}
	slices.SortFunc(pods, func(a, b *Pod) int { return cmp.Compare(a.Record().CreatedAt, b.Record().CreatedAt) })
	for _, p := range pods {
		s.tellOf(p)
		if err := s.index.Add(p.Record().ID, p.Record().Name, p); err != nil {
			s.Log.Error("pod not restored", "pod", p.Record().ID, "error", err)
			continue
		}
		s.SELinux.Reserve(p.Record().Labels)
		s.check(p)
	}
	return nil
}

// tidy takes away what a directory holds whose record was removed.
func tidy(dir string) error {
	return errors.Join(namespace.Unpin(filepath.Join(dir, "ns")), unmountShm(dir), os.RemoveAll(dir))
}

// check compares a restored record with the kernel: what a pod says it has must
// be there, else it is not ready.
func (s *Service) check(p *Pod) {
	r := p.Record()
	if r.State != Ready {
		return
	}
	for _, k := range kinds {
		if path := p.Namespace(k); path != "" {
			if ok, err := namespace.Is(path); err != nil || !ok {
				s.Log.Warn("pod has lost a namespace", "pod", r.ID, "kind", k, "error", err)
				p.move(Stop)
				return
			}
		}
	}
	if r.Reaper == nil {
		return
	}
	pidfd, err := linux.PidfdOpen(r.Reaper.Pid)
	if err != nil || !linux.Alive(r.Reaper.Pid, r.Reaper.StartTime) {
		s.Exited(monitor.Exit{ID: r.ID})
	}
	p.keep(pidfd)
}

// Abandoned are the pods whose RunPodSandbox or removal a killed daemon left
// undone. They must be taken down once the monitor and the network are there. To
// be called before the first request.
func (s *Service) Abandoned() []*Pod {
	var left []*Pod
	for _, p := range s.index.All() {
		if st := p.Record().State; st == Creating || st == Removing {
			left = append(left, p)
		}
	}
	return left
}

// Abandon takes one of them down. What fails stays, not ready, for the kubelet.
func (s *Service) Abandon(ctx context.Context, p *Pod, clear func(ctx context.Context, pod string) error) error {
	if p.Record().State == Removing {
		return s.remove(ctx, p, clear)
	}
	return s.undoHalf(ctx, p)
}

// undoHalf takes down a half made pod, once for all who ask.
func (s *Service) undoHalf(ctx context.Context, p *Pod) error {
	id := p.Record().ID
	waiting := func() string { return "undoing of half made sandbox " + id }
	_, err := s.join(ctx, "undo "+id, stopLimit, waiting, func(ctx context.Context) (string, error) {
		if _, err := s.index.Get(id); err != nil {
			return "", nil // it is done
		}
		if err := s.release(ctx, p); err != nil {
			return "", errors.Join(err, p.move(Stop))
		}
		return "", s.forget(p)
	})
	return err
}
