package interceptor

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"runtime/debug"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berth-cri/berth/telemetry"
)

// Chain is the interceptors with their gate.
type Chain struct {
	log  *slog.Logger
	open atomic.Bool
}

// New returns a chain whose gate is closed.
func New(log *slog.Logger) *Chain { return &Chain{log: log} }

// Open lets requests through: everything of the earlier daemon has been taken up.
func (c *Chain) Open() { c.open.Store(true) }

// Options are the server options that put the chain before every RPC.
func (c *Chain) Options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.UnaryInterceptor(c.unary), grpc.StreamInterceptor(c.stream)}
}

func (c *Chain) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (reply any, err error) {
	err = c.around(ctx, info.FullMethod, func() (err error) {
		reply, err = handle(ctx, req)
		return err
	})
	return reply, err
}

func (c *Chain) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return c.around(s.Context(), info.FullMethod, func() error { return handle(srv, s) })
}

func (c *Chain) around(ctx context.Context, method string, call func() error) (err error) {
	if !c.open.Load() {
		return status.Error(codes.Unavailable, "server is not initialized yet")
	}
	telemetry.RPCBegan()
	began := time.Now()
	err = Status(guard(call))
	took, name := time.Since(began), path.Base(method)
	telemetry.RPCEnded(name, status.Code(err).String(), took, name != endless)
	c.report(ctx, name, took, err)
	return err
}

// endless is the method whose time says how long a client has listened.
const endless = "GetContainerEvents"

// guard turns a panic of one request into its error: the node's other pods must
// not pay for it.
func guard(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return call()
}

func (c *Chain) report(ctx context.Context, method string, took time.Duration, err error) {
	level := slog.LevelDebug
	switch status.Code(err) {
	case codes.OK:
	case codes.NotFound, codes.Canceled, codes.Unimplemented:
		level = slog.LevelInfo // the kubelet's everyday questions
	default:
		level = slog.LevelWarn
	}
	if !c.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("rpc", method), slog.Duration("took", took)}
	if err != nil {
		attrs = append(attrs, slog.String("code", status.Code(err).String()), slog.String("error", status.Convert(err).Message()))
	}
	c.log.LogAttrs(ctx, level, "request", attrs...)
}
