package interceptor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	crierrors "k8s.io/cri-api/pkg/errors"
)

// sentinels are errors that the kubelet recognises by the start of their text,
// and only when the code is Unknown: its client takes the gRPC prefix away from
// nothing else (kubernetes image_manager.go evalCRIPullErr, cri-client
// remote_image.go).
var sentinels = []error{
	crierrors.ErrRegistryUnavailable,
	crierrors.ErrSignatureValidationFailed,
	crierrors.ErrRROUnsupported,
	crierrors.ErrImageVolumeMountFailed,
}

// kinds in the order in which they are looked for: an error may hold several,
// and what the client did comes first.
var kinds = []struct {
	is   func(error) bool
	code codes.Code
}{
	{func(e error) bool { return errors.Is(e, context.Canceled) || errdefs.IsCanceled(e) }, codes.Canceled},
	{func(e error) bool { return errors.Is(e, context.DeadlineExceeded) || errdefs.IsDeadlineExceeded(e) }, codes.DeadlineExceeded},
	{errdefs.IsInvalidArgument, codes.InvalidArgument},
	{errdefs.IsNotFound, codes.NotFound},
	{errdefs.IsAlreadyExists, codes.AlreadyExists},
	{errdefs.IsFailedPrecondition, codes.FailedPrecondition},
	{errdefs.IsResourceExhausted, codes.ResourceExhausted},
	{errdefs.IsUnavailable, codes.Unavailable},
	{errdefs.IsNotImplemented, codes.Unimplemented},
	{errdefs.IsPermissionDenied, codes.PermissionDenied},
	{errdefs.IsUnauthorized, codes.Unauthenticated},
	{errdefs.IsDataLoss, codes.DataLoss},
	{errdefs.IsOutOfRange, codes.OutOfRange},
	{errdefs.IsAborted, codes.Aborted},
	{errdefs.IsConflict, codes.Aborted},
}

// Status turns an error of a handler into what the client gets. An error
// without a kind is a bug in our typing and becomes Internal.
func Status(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err // of grpc itself, or Unimplemented from the generated server
	}
	for _, s := range sentinels {
		if errors.Is(err, s) {
			text := err.Error()
			if !strings.HasPrefix(text, s.Error()) { // moved to the front, not repeated
				text = fmt.Sprintf("%s: %s", s, strings.Replace(text, s.Error()+": ", "", 1))
			}
			return status.Error(codes.Unknown, text)
		}
	}
	for _, k := range kinds {
		if k.is(err) {
			return status.Error(k.code, err.Error())
		}
	}
	return status.Error(codes.Internal, err.Error())
}
