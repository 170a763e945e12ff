package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// wish is a change of a container's CPU shares and quota.
func wish(id string, shares uint64, quota int64) *api.ContainerUpdate {
	u := &api.ContainerUpdate{}
	u.SetContainerId(id)
	u.SetLinuxCPUShares(shares)
	if quota != 0 {
		u.SetLinuxCPUQuota(quota)
	}
	return u
}

// sharesAre compares kernel and status.
func (n *node) sharesAre(what, id string, v1, v2 string) {
	n.t.Helper()
	if got := n.shares(id); got != weight(v1, v2) {
		n.t.Errorf("%s: the shares are %s, want %s", what, got, weight(v1, v2))
	}
	if got := n.status(id).Resources.GetLinux().GetCpuShares(); fmt.Sprint(got) != v1 {
		n.t.Errorf("%s: status tells shares of %d, want %s", what, got, v1)
	}
}

// Plugins change other containers when one is created, updated or stops.
func TestNRIUpdatesOfOthers(t *testing.T) {
	n := newNode(t, patient)
	n.pull(busybox)
	var other string
	answer := func(shares uint64) []*api.ContainerUpdate {
		if other == "" {
			return nil
		}
		return []*api.ContainerUpdate{wish(other, shares, 0)}
	}
	n.plugin("10-balance", func(p *nriPlugin) {
		p.create = func(_ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
			switch c.Name {
			case "impossible":
				return nil, []*api.ContainerUpdate{wish(other, 600, -7)}, nil
			case "indifferent":
				u := wish(other, 600, -7)
				u.SetIgnoreFailure()
				return nil, []*api.ContainerUpdate{u, wish("nobody", 2, 0)}, nil
			}
			return nil, answer(100), nil
		}
		p.update = func(c *api.Container, r *api.LinuxResources) ([]*api.ContainerUpdate, error) {
			if r.Cpu.Shares.GetValue() == 666 {
				return nil, errors.New("no such shares")
			}
			return append(answer(200), wish(c.Id, r.Cpu.Shares.GetValue()+1, 0)), nil
		}
		p.stop = func(*api.Container) ([]*api.ContainerUpdate, error) { return answer(300), nil }
	})
	pod := n.pod(n.podConfig("balanced"))
	other = n.run(pod, containerConfig("other", "sleep 1000"))
	second := n.run(pod, containerConfig("second", "sleep 1000"))
	n.sharesAre("at a creation", other, "100", "17")
	if err := n.update(second, &resources{CpuShares: 500, OomScoreAdj: 321}); err != nil {
		t.Fatal(err)
	}
	n.sharesAre("at an update", other, "200", "29")
	n.sharesAre("the updated one", second, "501", "58")
	if got := n.must(second, "cat /proc/1/oom_score_adj"); got != "321\n" {
		t.Errorf("what plugins do not see of an update: %q", got)
	}
	wantCode(t, "refused", n.update(second, &resources{CpuShares: 666}), codes.FailedPrecondition, "no such shares")
	n.sharesAre("refused", second, "501", "58")
	n.stop(second, 0)
	n.sharesAre("at a stop", other, "300", "39")

	_, err := n.create(pod, containerConfig("impossible", "true"))
	wantCode(t, "an update that fails", err, codes.InvalidArgument, other)
	n.sharesAre("nothing of an update that fails", other, "300", "39")
	if _, err := n.create(pod, containerConfig("indifferent", "true")); err != nil {
		t.Errorf("an update that may fail: %v", err)
	}
	n.restart()
	n.sharesAre("after a restart", other, "300", "39")
}

// By themselves, at any time: also while they are asked about the same container.
func TestNRIUnsolicitedUpdates(t *testing.T) {
	n := newNode(t, patient)
	n.pull(busybox)
	var p *nriPlugin
	var inStart error
	p = n.plugin("10-sudden", func(p *nriPlugin) {
		p.start = func(c *api.Container) error {
			_, inStart = p.stub.UpdateContainers([]*api.ContainerUpdate{wish(c.Id, 128, 0)})
			return nil
		}
	})
	pod := n.pod(n.podConfig("sudden"))
	id := n.run(pod, containerConfig("c", "sleep 1000"))
	if inStart != nil {
		t.Errorf("at its start: %v", inStart)
	}
	n.sharesAre("at its start", id, "128", "21")
	if _, err := p.stub.UpdateContainers([]*api.ContainerUpdate{wish(id, 256, 20000), wish("nobody", 2, 0)}); err != nil {
		t.Fatal(err)
	}
	n.sharesAre("running", id, "256", "35")
	if q := n.status(id).Resources.Linux.CpuQuota; q != 20000 {
		t.Errorf("quota: %d", q)
	}
	for name, u := range map[string]*api.ContainerUpdate{
		"quota":          wish(id, 512, -7),
		"cpuset":         func() *api.ContainerUpdate { u := wish(id, 512, 0); u.SetLinuxCPUSetCPUs("4000"); return u }(),
		"memory":         func() *api.ContainerUpdate { u := wish(id, 512, 0); u.SetLinuxMemoryLimit(4096); return u }(),
		"block IO class": func() *api.ContainerUpdate { u := wish(id, 512, 0); u.SetLinuxBlockIOClass("slow"); return u }(),
	} {
		if _, err := p.stub.UpdateContainers([]*api.ContainerUpdate{u}); err == nil || !strings.Contains(err.Error(), id) {
			t.Errorf("%s: %v", name, err)
		}
		n.sharesAre("nothing of a wrong "+name, id, "256", "35")
	}
	n.stop(id, 0)
	if _, err := p.stub.UpdateContainers([]*api.ContainerUpdate{wish(id, 512, 0)}); err != nil {
		t.Errorf("one that has ended: %v", err)
	}
}

// The library of plugins has no way to evict, the protocol has: this is what one
// in another language may send.
func TestNRIEvictions(t *testing.T) {
	n := newNode(t, patient)
	n.pull(busybox)
	var victim string
	evict := func() []*api.ContainerEviction {
		return []*api.ContainerEviction{{ContainerId: victim, Reason: "in the way"}, {ContainerId: "nobody"}}
	}
	var server ttrpc.UnaryServerInterceptor = func(ctx context.Context, decode ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, next ttrpc.Method) (any, error) {
		reply, err := next(ctx, decode)
		switch r := reply.(type) {
		case *api.CreateContainerResponse:
			if victim != "" {
				r.Evict = evict()
			}
		case *api.UpdateContainerResponse:
			r.Evict = evict()
		}
		return reply, err
	}
	unsolicited := &api.UpdateContainersRequest{}
	var client ttrpc.UnaryClientInterceptor = func(ctx context.Context, req *ttrpc.Request, resp *ttrpc.Response, info *ttrpc.UnaryClientInfo, next ttrpc.Invoker) error {
		if strings.HasSuffix(info.FullMethod, "/UpdateContainers") {
			var err error
			if req.Payload, err = unsolicited.MarshalVT(); err != nil {
				return err
			}
		}
		return next(ctx, req, resp)
	}
	p := n.plugin("10-evict", nil, stub.WithTTRPCOptions(
		[]ttrpc.ClientOpts{ttrpc.WithUnaryClientInterceptor(client)}, []ttrpc.ServerOpt{ttrpc.WithUnaryServerInterceptor(server)}))
	pod := n.pod(n.podConfig("evict"))
	ended := func(what string) {
		t.Helper()
		eventually(t, 10*time.Second, what, func() error {
			if st := n.status(victim); st.State != runtimeapi.ContainerState_CONTAINER_EXITED || st.ExitCode != 137 {
				return fmt.Errorf("%s, exit code %d", st.State, st.ExitCode)
			}
			return nil
		})
		victim = ""
	}
	victim = n.run(pod, containerConfig("one", "sleep 1000"))
	keeper, err := n.create(pod, containerConfig("keeper", "sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	ended("at a creation")
	two := n.run(pod, containerConfig("two", "sleep 1000"))
	victim = two
	if err := n.update(keeper, &resources{CpuShares: 3}); err != nil {
		t.Fatal(err)
	}
	ended("at an update")
	victim = n.run(pod, containerConfig("three", "sleep 1000"))
	unsolicited.Evict = evict()
	if _, err := p.stub.UpdateContainers(nil); err != nil {
		t.Error(err)
	}
	ended("of its own accord")
	p.told("StopContainer three")
}
