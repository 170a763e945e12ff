package interceptor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	crierrors "k8s.io/cri-api/pkg/errors"
)

func TestStatus(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("step one: %w", fmt.Errorf("step two: %w", err)) }
	for name, tc := range map[string]struct {
		err    error
		code   codes.Code
		prefix string
	}{
		"nothing wrong":                        {nil, codes.OK, ""},
		"kind under two steps":                 {wrap(errdefs.ErrNotFound), codes.NotFound, "step one: step two"},
		"bad request":                          {wrap(errdefs.ErrInvalidArgument), codes.InvalidArgument, "step one"},
		"wrong state":                          {wrap(errdefs.ErrFailedPrecondition), codes.FailedPrecondition, "step one"},
		"client went away":                     {wrap(context.Canceled), codes.Canceled, "step one"},
		"deadline, and something not found":    {errors.Join(errdefs.ErrNotFound, context.DeadlineExceeded), codes.DeadlineExceeded, ""},
		"not built":                            {wrap(errdefs.ErrNotImplemented), codes.Unimplemented, "step one"},
		"registry refuses":                     {wrap(errdefs.ErrUnauthenticated), codes.Unauthenticated, "step one"},
		"no kind":                              {errors.New("bug"), codes.Internal, "bug"},
		"registry is away, sentinel deep down": {wrap(crierrors.ErrRegistryUnavailable), codes.Unknown, "RegistryUnavailable: step one"},
		"registry is away, sentinel first": {
			fmt.Errorf("%w: %w", crierrors.ErrRegistryUnavailable, errdefs.ErrUnavailable), codes.Unknown, "RegistryUnavailable: "},
		"a volume, sentinel in the middle": {
			fmt.Errorf("create: %w: no such path", crierrors.ErrImageVolumeMountFailed), codes.Unknown, "ImageVolumeMountFailed: create: no such path"},
		"a status already": {status.Error(codes.Unimplemented, "x"), codes.Unimplemented, "x"},
	} {
		got := Status(tc.err)
		if status.Code(got) != tc.code || !strings.HasPrefix(status.Convert(got).Message(), tc.prefix) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestGateAndGuard(t *testing.T) {
	c := New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	called := 0
	call := func() error {
		_, err := c.unary(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: "/x/Y"}, func(context.Context, any) (any, error) {
			called++
			if called == 2 {
				panic("at the disco")
			}
			return nil, nil
		})
		return err
	}
	if err := call(); status.Code(err) != codes.Unavailable || called != 0 {
		t.Errorf("before recovery: %v, %d calls", err, called)
	}
	c.Open()
	if err := call(); err != nil {
		t.Errorf("open: %v", err)
	}
	if err := call(); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "at the disco") {
		t.Errorf("panic: %v", err)
	}
	if err := call(); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}
