package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// containerList lists containers, newest last.
func (c *client) containerList(ctx context.Context, f *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	r, err := c.runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: f})
	return r.GetContainers(), err
}

func (c *client) podList(ctx context.Context, f *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	r, err := c.runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: f})
	return r.GetItems(), err
}

func (c *client) imageList(ctx context.Context) ([]*runtimeapi.Image, error) {
	r, err := c.images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	return r.GetImages(), err
}

// container finds one by id, name, or the beginning of an id; among those of one
// name a running one comes first, then the latest.
func (c *client) container(ctx context.Context, word string) (*runtimeapi.Container, error) {
	all, err := c.containerList(ctx, nil)
	if err != nil {
		return nil, err
	}
	if found := exactly(all, word); found != nil {
		return found, nil
	}
	var best *runtimeapi.Container
	pods := map[string]bool{}
	for _, x := range all {
		if x.GetMetadata().GetName() != word {
			continue
		}
		pods[x.PodSandboxId] = true
		running := x.State == runtimeapi.ContainerState_CONTAINER_RUNNING
		was := best != nil && best.State == runtimeapi.ContainerState_CONTAINER_RUNNING
		if best == nil || running && !was || running == was && x.CreatedAt > best.CreatedAt {
			best = x
		}
	}
	if len(pods) > 1 {
		return nil, &ambiguous{fmt.Sprintf("%d pods have a container %q: name it by its id", len(pods), word)}
	}
	if best != nil {
		return best, nil
	}
	return beginning(all, word, "container")
}

// pod finds one by id, name, namespace/name, or the beginning of an id; a ready
// one comes first, then the latest.
func (c *client) pod(ctx context.Context, word string) (*runtimeapi.PodSandbox, error) {
	all, err := c.podList(ctx, nil)
	if err != nil {
		return nil, err
	}
	if found := exactly(all, word); found != nil {
		return found, nil
	}
	namespace, name, both := strings.Cut(word, "/")
	if !both {
		namespace, name = "", word
	}
	var best *runtimeapi.PodSandbox
	uids := map[string]bool{}
	for _, x := range all {
		if m := x.GetMetadata(); m.GetName() != name || both && m.GetNamespace() != namespace {
			continue
		}
		uids[x.GetMetadata().GetNamespace()+"/"+x.GetMetadata().GetUid()] = true
		ready := x.State == runtimeapi.PodSandboxState_SANDBOX_READY
		was := best != nil && best.State == runtimeapi.PodSandboxState_SANDBOX_READY
		if best == nil || ready && !was || ready == was && x.CreatedAt > best.CreatedAt {
			best = x
		}
	}
	if len(uids) > 1 {
		return nil, &ambiguous{fmt.Sprintf("%d pods have the name %q: name one by its id", len(uids), word)}
	}
	if best != nil {
		return best, nil
	}
	return beginning(all, word, "pod")
}

// ambiguous is an error about a word that fits several things.
type ambiguous struct{ text string }

func (a *ambiguous) Error() string { return a.text }

func isAmbiguous(err error) bool {
	var a *ambiguous
	return errors.As(err, &a)
}

type identified interface{ GetId() string }

func exactly[T identified](all []T, id string) (found T) {
	for _, x := range all {
		if x.GetId() == id {
			return x
		}
	}
	return found
}

// beginning finds what has an id that begins so. It comes after names: "db" and
// "cafe" are names that people give.
func beginning[T identified](all []T, word, what string) (found T, err error) {
	n := 0
	for _, x := range all {
		if word != "" && strings.HasPrefix(x.GetId(), word) {
			found = x
			n++
		}
	}
	var none T
	switch n {
	case 0:
		return none, fmt.Errorf("no %s %q", what, word)
	case 1:
		return found, nil
	}
	return none, &ambiguous{fmt.Sprintf("%d %ss have ids that begin with %q", n, what, word)}
}
