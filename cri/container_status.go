package cri

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"github.com/berth-cri/berth/runtime/container"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ContainerStatus. CRI: NotFound when there is no such container.
func (s *Server) ContainerStatus(_ context.Context, r *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	c, err := s.Containers.Get(r.GetContainerId())
	if err == nil && !listed(c) {
		err = fmt.Errorf("is being created: %w", errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("status of container %s: %w", r.GetContainerId(), err)
	}
	reply := &runtimeapi.ContainerStatusResponse{Status: containerStatus(c)}
	if r.GetVerbose() {
		sp, err := c.Spec()
		if err != nil {
			return nil, fmt.Errorf("status of container %s: %w", r.GetContainerId(), err)
		}
		// The names that crictl and its users know from containerd.
		reply.Info, err = info(map[string]any{
			"sandboxID":   c.Record().Pod,
			"pid":         c.Status().Pid,
			"config":      c.Record().Config,
			"record":      c.Record(),
			"state":       c.Status(),
			"runtimeSpec": sp,
			"paths": map[string]string{
				"state":    c.Dir(),
				"writable": s.Containers.Rootfs.Upper(c.Record().ID),
				"log":      c.Record().LogPath,
				"cgroup":   s.Containers.Cgroups.Load(c.Record().Cgroup).KillDir(),
			},
		})
		if err != nil {
			return nil, err
		}
	}
	return reply, nil
}

// containerStatus is the reply's status. Times are nanoseconds since the epoch;
// in CREATED there is no start, and before EXITED no end.
func containerStatus(c *container.Container) *runtimeapi.ContainerStatus {
	rec, st := c.Record(), c.Status()
	reply := &runtimeapi.ContainerStatus{
		Id:          rec.ID,
		Metadata:    rec.Config.GetMetadata(),
		State:       st.State.CRI(),
		CreatedAt:   rec.CreatedAt,
		Image:       rec.Config.GetImage(),
		ImageRef:    rec.ImageRef,
		ImageId:     rec.ImageID,
		Labels:      rec.Config.GetLabels(),
		Annotations: rec.Config.GetAnnotations(),
		Mounts:      rec.Mounts,
		LogPath:     rec.LogPath,
		User:        rec.User,
		StopSignal:  signal(rec.StopSignal),
	}
	if rec.ImageName != "" && rec.ImageName != reply.Image.GetImage() {
		reply.Image = proto.CloneOf(reply.Image)
		reply.Image.Image = rec.ImageName
	}
	if r := c.Limits().Config; r != nil {
		reply.Resources = &runtimeapi.ContainerResources{Linux: r}
	}
	if reply.State != runtimeapi.ContainerState_CONTAINER_CREATED {
		reply.StartedAt = st.StartedAt
	}
	if reply.State == runtimeapi.ContainerState_CONTAINER_EXITED {
		reply.FinishedAt, reply.ExitCode = st.FinishedAt, st.ExitCode
		reply.Reason, reply.Message = st.Reason, st.Message
	}
	return reply
}

// signal is the CRI's word for a signal; its real-time signals count from 34,
// as the C library's do.
func signal(s syscall.Signal) runtimeapi.Signal {
	name := unix.SignalName(s)
	const rtmin, rtmax = 34, 64
	switch {
	case s == rtmin:
		name = "SIGRTMIN"
	case s == rtmax:
		name = "SIGRTMAX"
	case s > rtmin && s <= rtmin+15:
		name = fmt.Sprintf("SIGRTMINPLUS%d", s-rtmin)
	case s > rtmin && s < rtmax:
		name = fmt.Sprintf("SIGRTMAXMINUS%d", rtmax-s)
	}
	return runtimeapi.Signal(runtimeapi.Signal_value["SIGNAL_"+strings.ToUpper(name)])
}
