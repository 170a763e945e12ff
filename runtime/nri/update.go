package nri

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-cri/berth/runtime/container"
	"github.com/containerd/errdefs"
	lib "github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
)

// unsolicited are updates that a plugin asks for by itself. The answer names
// those that failed, in the error since the protocol drops the list beside one.
func (s *Service) unsolicited(ctx context.Context, updates []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) {
	return s.apply(ctx, updates)
}

// apply changes limits of containers as plugins wish, each all or nothing, by
// the way that UpdateContainerResources goes. Of a container that has ended
// there is nothing to change.
func (s *Service) apply(ctx context.Context, updates []*api.ContainerUpdate) (failed []*api.ContainerUpdate, _ error) {
	var errs []error
	for _, u := range updates {
		if u.GetLinux().GetResources() == nil {
			continue
		}
		change, err := changeOf(u.Linux.Resources)
		if err == nil {
			err = s.set(ctx, u.ContainerId, change)
		}
		switch {
		case err == nil, ended(err):
		case u.IgnoreFailure:
			s.Log.Debug("update that a plugin wished", "container", u.ContainerId, "error", err)
		default:
			failed = append(failed, u)
			errs = append(errs, fmt.Errorf("update container %s as a plugin wishes: %w", u.ContainerId, err))
		}
	}
	return failed, errors.Join(errs...)
}

// set waits for a container that is being started no longer than for a plugin:
// others wait for the caller.
func (s *Service) set(ctx context.Context, id string, change container.Change) error {
	ctx, cancel := context.WithTimeout(ctx, s.settings.Load().RequestTimeout)
	defer cancel()
	return s.Containers.Set(ctx, id, change)
}

func ended(err error) bool {
	var t *container.TransitionError
	switch {
	case errdefs.IsNotFound(err):
		return true
	case errors.As(err, &t):
		return t.From != container.Creating
	}
	return false
}

// evictions ends the containers that plugins wish to be gone. The protocol has
// them in three messages and the library hands none of them on, so they are read
// on their way.
func (s *Service) evictions() lib.Option {
	from := map[string]func() evicting{
		"CreateContainer": func() evicting { return &api.CreateContainerResponse{} },
		"UpdateContainer": func() evicting { return &api.UpdateContainerResponse{} },
	}
	replies := map[string]func() evicting{}
	for method, reply := range from {
		replies["/nri.pkg.api.v1alpha1.Plugin/"+method] = reply
	}
	client := func(ctx context.Context, req *ttrpc.Request, resp *ttrpc.Response, info *ttrpc.UnaryClientInfo, next ttrpc.Invoker) error {
		if err := next(ctx, req, resp); err != nil {
			return err
		}
		if reply := replies[info.FullMethod]; reply != nil {
			m := reply()
			if err := proto.Unmarshal(resp.Payload, m); err == nil { // else the library says so
				s.evict(m.GetEvict())
			}
		}
		return nil
	}
	server := func(ctx context.Context, decode ttrpc.Unmarshaler, _ *ttrpc.UnaryServerInfo, next ttrpc.Method) (any, error) {
		return next(ctx, func(m any) error {
			err := decode(m)
			if r, ok := m.(*api.UpdateContainersRequest); ok && err == nil {
				s.evict(r.GetEvict())
			}
			return err
		})
	}
	return lib.WithTTRPCOptions(
		[]ttrpc.ClientOpts{ttrpc.WithUnaryClientInterceptor(client)},
		[]ttrpc.ServerOpt{ttrpc.WithUnaryServerInterceptor(server)},
	)
}

type evicting interface {
	proto.Message
	GetEvict() []*api.ContainerEviction
}

// evict kills containers, at once as other runtimes do, while the plugin goes on:
// it hears of the end.
func (s *Service) evict(all []*api.ContainerEviction) {
	for _, e := range all {
		s.Log.Info("a plugin evicts a container", "container", e.ContainerId, "reason", e.Reason)
		go func() {
			err := s.Containers.Stop(context.Background(), e.ContainerId, 0)
			if err != nil && !errdefs.IsNotFound(err) {
				s.Log.Warn("evict a container", "container", e.ContainerId, "error", err)
			}
		}()
	}
}
