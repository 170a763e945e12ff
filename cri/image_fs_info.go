package cri

import (
	"context"
	"fmt"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ImageFsInfo. CRI: what images take, and what the writable layers of
// containers take, each with a directory of its file system. Both are on one
// here; the kubelet reads the first entry of each list.
func (s *Server) ImageFsInfo(ctx context.Context, _ *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	now := time.Now().UnixNano()
	usage := func(mountpoint string, bytes, inodes uint64) []*runtimeapi.FilesystemUsage {
		return []*runtimeapi.FilesystemUsage{{
			Timestamp:  now,
			FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: mountpoint},
			UsedBytes:  &runtimeapi.UInt64Value{Value: bytes},
			InodesUsed: &runtimeapi.UInt64Value{Value: inodes},
		}}
	}
	images := s.Images.FsUsage()
	bytes, inodes, err := s.Containers.FsUsage(ctx)
	if err != nil {
		return nil, fmt.Errorf("usage of writable layers: %w", err)
	}
	return &runtimeapi.ImageFsInfoResponse{
		ImageFilesystems:     usage(images.Mountpoint, images.Bytes, images.Inodes),
		ContainerFilesystems: usage(images.Mountpoint, bytes, inodes),
	}, nil
}
