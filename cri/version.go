package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// kubeletAPIVersion is what every runtime answers; the field has had no meaning
// since the kubelet's API has versions of its own.
const kubeletAPIVersion = "0.1.0"

// Version. CRI: all four fields must be set, the kubelet's client refuses else.
func (s *Server) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{
		Version:           kubeletAPIVersion,
		RuntimeName:       "berth",
		RuntimeVersion:    s.Options.Version,
		RuntimeApiVersion: "v1",
	}, nil
}
