package e2e

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// byID is a call that names a pod sandbox or a container.
type byID struct {
	name      string
	container bool
	missing   codes.Code // for an id that is not there
	call      func(n *node, id string) error
}

var callsByID = []byID{
	{"PodSandboxStatus", false, codes.NotFound, func(n *node, id string) error {
		_, err := n.rt.PodSandboxStatus(n.ctx(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
		return err
	}},
	{"CreateContainer", false, codes.NotFound, func(n *node, id string) error {
		_, err := n.create(id, containerConfig("x", "true"))
		return err
	}},
	{"ContainerStatus", true, codes.NotFound, func(n *node, id string) error {
		_, err := n.rt.ContainerStatus(n.ctx(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
		return err
	}},
	{"StartContainer", true, codes.NotFound, func(n *node, id string) error {
		_, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
		return err
	}},
	{"ExecSync", true, codes.NotFound, func(n *node, id string) error {
		_, err := n.rt.ExecSync(n.ctx(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}})
		return err
	}},
	{"ReopenContainerLog", true, codes.NotFound, func(n *node, id string) error {
		_, err := n.rt.ReopenContainerLog(n.ctx(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
		return err
	}},
	{"StopContainer", true, codes.OK, func(n *node, id string) error {
		_, err := n.rt.StopContainer(n.ctx(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 1})
		return err
	}},
	{"RemoveContainer", true, codes.OK, func(n *node, id string) error {
		_, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: id})
		return err
	}},
	{"StopPodSandbox", false, codes.OK, func(n *node, id string) error {
		_, err := n.rt.StopPodSandbox(n.ctx(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: id})
		return err
	}},
	{"RemovePodSandbox", false, codes.OK, func(n *node, id string) error {
		_, err := n.rt.RemovePodSandbox(n.ctx(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id})
		return err
	}},
}

// hostNetwork is a pod that is cheap to make.
func hostNetwork(c *runtimeapi.PodSandboxConfig) {
	c.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
}

func TestIDs(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	// With seventeen of a kind two must begin with the same character.
	var pods, containers []string
	for i := range 17 {
		pods = append(pods, n.pod(n.podConfig(fmt.Sprintf("p%d", i), hostNetwork)))
	}
	for i := range 17 {
		id, err := n.create(pods[0], containerConfig(fmt.Sprintf("c%d", i), "sleep 1000"))
		if err != nil {
			t.Fatal(err)
		}
		containers = append(containers, id)
	}
	for _, ids := range [][]string{pods, containers} {
		for _, id := range ids {
			if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
				t.Errorf("id %q", id)
			}
		}
	}
	for _, c := range callsByID {
		ambiguous := twice(pods)
		if c.container {
			ambiguous = twice(containers)
		}
		for name, tc := range map[string]struct {
			id   string
			code codes.Code
		}{
			"unknown":            {strings.Repeat("f", 64), c.missing},
			"empty":              {"", c.missing},
			"longer than an id":  {pods[1] + "0", c.missing},
			"not of the letters": {"../" + pods[1], c.missing},
			"ambiguous":          {ambiguous, codes.InvalidArgument},
		} {
			if err := c.call(n, tc.id); status.Code(err) != tc.code {
				t.Errorf("%s of %s id: %v, want %s", c.name, name, err, tc.code)
			}
		}
	}
	// Nothing of it has removed anything.
	if got := n.podNames(nil); len(got) != 17 {
		t.Errorf("pods: %v", got)
	}
	if got := n.containerNames(nil); len(got) != 17 {
		t.Errorf("containers: %v", got)
	}
	// A unique prefix is as good as the id, and each call can be repeated.
	for _, c := range callsByID {
		id := prefix(pods, 0)
		if c.container {
			id = prefix(containers, 3)
		}
		want := codes.OK
		if err := c.call(n, id); status.Code(err) != want {
			t.Errorf("%s of prefix %s: %v", c.name, id, err)
		}
		if c.missing == codes.OK {
			if err := c.call(n, id); err != nil {
				t.Errorf("%s once more: %v", c.name, err)
			}
		}
	}
}

// twice returns a character with which more than one id begins.
func twice(ids []string) string {
	for i, id := range ids {
		if slices.ContainsFunc(ids[i+1:], func(other string) bool { return other[:1] == id[:1] }) {
			return id[:1]
		}
	}
	return ""
}

// prefix returns the shortest one of an id that no other has.
func prefix(ids []string, i int) string {
	for l := 1; ; l++ {
		p := ids[i][:l]
		if !slices.ContainsFunc(ids, func(id string) bool { return id != ids[i] && strings.HasPrefix(id, p) }) {
			return p
		}
	}
}

// Every RPC with an empty request: what Berth does not serve is Unimplemented,
// which the kubelet falls back on; nothing is a bug (Internal, Unknown).
func TestEmptyRequests(t *testing.T) {
	n := newNode(t)
	want := map[string]codes.Code{
		"Version": codes.OK, "Status": codes.OK, "RuntimeConfig": codes.OK, "UpdateRuntimeConfig": codes.OK,
		"RunPodSandbox": codes.InvalidArgument, "StopPodSandbox": codes.OK, "RemovePodSandbox": codes.OK,
		"PodSandboxStatus": codes.NotFound, "ListPodSandbox": codes.OK,
		"CreateContainer": codes.InvalidArgument, "StartContainer": codes.NotFound, "StopContainer": codes.OK,
		"RemoveContainer": codes.OK, "ContainerStatus": codes.NotFound, "ListContainers": codes.OK,
		"ExecSync": codes.NotFound, "ReopenContainerLog": codes.NotFound,
		"ListImages": codes.OK, "ImageStatus": codes.InvalidArgument, "PullImage": codes.InvalidArgument,
		"RemoveImage": codes.InvalidArgument, "ImageFsInfo": codes.OK,
	}
	fine := []codes.Code{codes.OK, codes.InvalidArgument, codes.NotFound, codes.Unimplemented}
	for _, service := range []*grpc.ServiceDesc{&runtimeapi.RuntimeService_ServiceDesc, &runtimeapi.ImageService_ServiceDesc} {
		for _, m := range service.Methods {
			err := n.conn.Invoke(n.ctx(), "/"+service.ServiceName+"/"+m.MethodName, &emptypb.Empty{}, &emptypb.Empty{})
			got := status.Code(err)
			if code, ok := want[m.MethodName]; ok && got != code || !slices.Contains(fine, got) {
				t.Errorf("%s: %v, want %s", m.MethodName, err, code)
			}
			delete(want, m.MethodName)
		}
		for _, s := range service.Streams {
			err := n.receiveOne("/" + service.ServiceName + "/" + s.StreamName)
			// One that lives on is told apart by our deadline.
			if got := status.Code(err); err != io.EOF && got != codes.DeadlineExceeded && !slices.Contains(fine, got) {
				t.Errorf("%s: %v", s.StreamName, err)
			}
		}
	}
	for m := range want {
		t.Errorf("there is no RPC %s", m)
	}
	if err := n.conn.Invoke(n.ctx(), "/runtime.v1alpha2.RuntimeService/Version", &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown service: %v", err)
	}
}

// receiveOne calls a streaming RPC and returns what the first Recv says: where
// it is not served the kubelet's client learns it there.
func (n *node) receiveOne(method string) error {
	ctx, cancel := context.WithTimeout(n.ctx(), 300*time.Millisecond)
	defer cancel()
	s, err := n.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := s.SendMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	return s.RecvMsg(&emptypb.Empty{})
}

func TestCancelledRequests(t *testing.T) {
	n := newNode(t, faults("pod.run.network=sleep(200ms)"))
	ctx, cancel := context.WithCancel(n.ctx())
	cancel()
	_, err := n.rt.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: n.podConfig("never")})
	wantCode(t, "cancelled before it was sent", err, codes.Canceled)
	if got := n.podNames(nil); len(got) != 0 {
		t.Errorf("pods: %v", got)
	}
}
