package node

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/berth-cri/berth/imageservice"
	"github.com/berth-cri/berth/imageservice/pull"
	"github.com/containerd/errdefs"
)

// lookEvery is how often a client hears of its pull: the pull only counts, and
// is looked at from here.
const lookEvery = 100 * time.Millisecond

func (s *Server) pull(r *PullRequest, send func(*PullEvent) error, ctx context.Context) error {
	if r.Image == "" {
		return fmt.Errorf("pull image: no image is named: %w", errdefs.ErrInvalidArgument)
	}
	joined := make(chan pull.View, 1)
	request := imageservice.PullRequest{Image: r.Image, Joined: func(v pull.View) { joined <- v }}
	if r.Username != "" || r.Password != "" || r.IdentityToken != "" || r.RegistryToken != "" {
		request.Auth = &imageservice.Auth{
			Username: r.Username, Password: r.Password, IdentityToken: r.IdentityToken, RegistryToken: r.RegistryToken,
		}
	}
	ctx, cancel := context.WithCancel(ctx) // a client that does not listen any more wants no image
	defer cancel()
	var id string
	var failure error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		id, failure = s.Images.Pull(ctx, request)
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var view pull.View
	var last *PullEvent
	for {
		select {
		case view = <-joined:
		case <-tick.C:
			if e := event(view); e != nil && !reflect.DeepEqual(e, last) {
				if err := send(e); err != nil {
					cancel()
					<-ended
					return fmt.Errorf("tell of the pull: %w: %w", err, errdefs.ErrAborted)
				}
				last = e
			}
		case <-ended:
			if view == nil {
				select {
				case view = <-joined:
				default:
				}
			}
			e := event(view)
			if e == nil {
				return failure // the name was wrong: nothing was asked
			}
			e.ImageID = id
			if r.Explain {
				e.Trail = trail(view)
			}
			if err := send(e); err != nil {
				return fmt.Errorf("tell of the pull: %w: %w", err, errdefs.ErrAborted)
			}
			return failure
		}
	}
}

// event is nil before there is a pull.
func event(v pull.View) *PullEvent {
	if v == nil {
		return nil
	}
	p := v.Progress()
	e := &PullEvent{State: string(p.State), Size: p.Size, Downloaded: p.Downloaded, Unpacked: p.Unpacked}
	for _, l := range v.LayerProgress() {
		e.Layers = append(e.Layers, PullLayer{Digest: l.Digest.String(), Size: l.Size, Downloaded: l.Downloaded, Done: l.Done, Here: l.Here})
	}
	return e
}

func trail(v pull.View) []Attempt {
	var all []Attempt
	for _, a := range v.Trace() {
		all = append(all, Attempt(a))
	}
	return all
}
