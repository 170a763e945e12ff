package cri

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/berth-cri/berth/cri/events"
	"github.com/berth-cri/berth/imageservice"
	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Network is what Status and UpdateRuntimeConfig need of the node's network.
type Network interface {
	Status(ctx context.Context) error
	SetPodCIDR(cidrs []string) error
}

// Streams grants what is streamed to clients (package streaming), by URL.
type Streams interface {
	Exec(r *runtimeapi.ExecRequest) (url string, err error)
	Attach(r *runtimeapi.AttachRequest) (url string, err error)
	PortForward(r *runtimeapi.PortForwardRequest) (url string, err error)
}

// Options of a Server.
type Options struct {
	Version      string // of Berth, semver
	Pods         *pod.Service
	Containers   *container.Service
	Images       *imageservice.Service
	Network      Network
	Streams      Streams
	CgroupDriver runtimeapi.CgroupDriver
	Handlers     func() []*runtimeapi.RuntimeHandler // the default as ""
	Features     *runtimeapi.RuntimeFeatures
	Events       *events.Hub
	// Configuration says why what the configuration's files say now is not in
	// effect, or nil.
	Configuration func() error
	// Monitor says why no container can be started just now, or nil.
	Monitor func() error
	// Info is what a verbose Status tells beside the conditions, ready for JSON.
	Info func() map[string]any
}

// Server answers both services.
type Server struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer
	Options

	podEntries       entries[*pod.Record]
	containerEntries entries[containerVersion]
}

// New returns a server for Register.
func New(o Options) *Server { return &Server{Options: o} }

// Register puts both services on a gRPC server.
func (s *Server) Register(g *grpc.Server) {
	runtimeapi.RegisterRuntimeServiceServer(g, s)
	runtimeapi.RegisterImageServiceServer(g, s)
}

// checkHandler refuses an image for a runtime handler that is unknown, as the CRI
// asks. All handlers have the same images.
func (s *Server) checkHandler(field string, image *runtimeapi.ImageSpec) error {
	name := image.GetRuntimeHandler()
	if name == "" || slices.ContainsFunc(s.Handlers(), func(h *runtimeapi.RuntimeHandler) bool { return h.GetName() == name }) {
		return nil
	}
	return fmt.Errorf("%s: %q: no such handler is configured: %w", field, name, errdefs.ErrInvalidArgument)
}

// info is the "info" of verbose replies: one JSON document under the key that
// crictl prints.
func info(v any) (map[string]string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return map[string]string{"info": string(b)}, nil
}

// matches says whether every wanted label is there with its value.
func matches(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}
