package node

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
)

const serviceName = "berth.v1.Node"

// handlers is what the description below calls.
type handlers interface {
	pull(*PullRequest, func(*PullEvent) error, context.Context) error
	diskUsage(context.Context, *DiskUsageRequest) (*DiskUsage, error)
}

var description = grpc.ServiceDesc{
	ServiceName: serviceName,
	HandlerType: (*handlers)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "DiskUsage",
		Handler: func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			in := new(DiskUsageRequest)
			if err := decode(in); err != nil {
				return nil, err
			}
			handle := func(ctx context.Context, in any) (any, error) {
				return srv.(handlers).diskUsage(ctx, in.(*DiskUsageRequest))
			}
			if intercept == nil {
				return handle(ctx, in)
			}
			return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + serviceName + "/DiskUsage"}, handle)
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName:    "Pull",
		ServerStreams: true,
		Handler: func(srv any, s grpc.ServerStream) error {
			in := new(PullRequest)
			if err := s.RecvMsg(in); err != nil {
				return fmt.Errorf("read the request: %w: %w", err, errdefs.ErrInvalidArgument)
			}
			return srv.(handlers).pull(in, func(e *PullEvent) error { return s.SendMsg(e) }, s.Context())
		},
	}},
}

// Register puts the service on a gRPC server.
func (s *Server) Register(g *grpc.Server) { g.RegisterService(&description, s) }

// Client asks the service.
type Client struct{ Conn grpc.ClientConnInterface }

// DiskUsage asks what Berth takes of the disk.
func (c Client) DiskUsage(ctx context.Context) (*DiskUsage, error) {
	out := new(DiskUsage)
	err := c.Conn.Invoke(ctx, "/"+serviceName+"/DiskUsage", &DiskUsageRequest{}, out, grpc.CallContentSubtype(contentSubtype))
	return out, err
}

// Pull pulls an image and calls seen with every event.
func (c Client) Pull(ctx context.Context, r *PullRequest, seen func(*PullEvent)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.Conn.NewStream(ctx, &description.Streams[0], "/"+serviceName+"/Pull", grpc.CallContentSubtype(contentSubtype))
	if err != nil {
		return err
	}
	if err := s.SendMsg(r); err != nil && !errors.Is(err, io.EOF) { // EOF: RecvMsg says why
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		e := new(PullEvent)
		if err := s.RecvMsg(e); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		seen(e)
	}
}
