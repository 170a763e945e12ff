package metrics

import (
	"time"

	"github.com/berth-cri/berth/runtime/stats"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Subject is a container, the cgroup of a pod or a pod's network, with what was
// read of it. What a subject does not have is nil.
type Subject struct {
	Container string // name of the container
	ID        string // path of the cgroup
	Image     string
	Name      string // id of the container or sandbox
	Namespace string
	Pod       string // name of the pod

	Sample  stats.Sample
	Network *stats.Network

	Started   time.Time // zero for a pod's network
	Processes *stats.Processes
	Files     *uint64 // the most that its first process may have open
	Limits    *Limits
	Disk      *Disk
}

// Limits are what was asked for; a part of nil is that of a container without
// any limit.
type Limits struct {
	*runtimeapi.LinuxContainerResources
}

// Disk is the writable layer and where it is.
type Disk struct {
	Filesystem
	Used *uint64 // bytes
}

const second = uint64(time.Second)

// seconds makes whole seconds of nanoseconds.
func seconds(n *uint64) *uint64 {
	if n == nil {
		return nil
	}
	s := *n / second
	return &s
}

func ptr[T any](v T) *T { return &v }
