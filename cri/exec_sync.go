package cri

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ExecSync. CRI: a command that fails is no error of the RPC; one that runs out
// of time is DeadlineExceeded, and is gone. Timeout 0 is none.
func (s *Server) ExecSync(ctx context.Context, r *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	if r.GetTimeout() < 0 || r.GetTimeout() > int64(longestGrace/time.Second) {
		return nil, fmt.Errorf("exec in container %s: timeout %d is out of range: %w", r.GetContainerId(), r.GetTimeout(), errdefs.ErrInvalidArgument)
	}
	out, err := s.Containers.ExecSync(ctx, r.GetContainerId(), r.GetCmd(), time.Duration(r.GetTimeout())*time.Second)
	if err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", r.GetContainerId(), err)
	}
	return &runtimeapi.ExecSyncResponse{Stdout: out.Stdout, Stderr: out.Stderr, ExitCode: out.Code}, nil
}
