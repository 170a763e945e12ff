package spec

import (
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-cri/berth/linux/namespace"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Input is all that a spec is made of.
type Input struct {
	Pod    Pod
	Config *runtimeapi.ContainerConfig
	Image  ocispec.ImageConfig
	// ImageName is the image as the client named it, for external runtimes.
	ImageName   string
	User        User
	CgroupsPath string
	Node        Node
	Resolved    Resolved
	// ProcessLabel and MountLabel are SELinux's; empty: the policy decides.
	ProcessLabel, MountLabel string
	// Annotations are those of pod and container that the runtime is told.
	Annotations map[string]string
}

// Pod is the pod that the container joins.
type Pod struct {
	ID     string
	Config *runtimeapi.PodSandboxConfig
	// Namespaces are the pod's pinned namespaces. A type that is missing is the
	// host's; PID is there when the pod shares one.
	Namespaces map[specs.LinuxNamespaceType]string
	// User are the ids of the pod's user namespace; nil: the host's.
	User *namespace.Mapping
	// TargetPID is the PID namespace of the container that this one targets.
	TargetPID string
	// Files of the pod that its containers see under their usual names; one that
	// is empty is not mounted.
	Hostname, Hosts, ResolvConf string
	// Shm is the directory that becomes /dev/shm.
	Shm string
}

// User is the container's user, resolved in its image.
type User struct {
	UID, GID       uint32
	AdditionalGids []uint32
	Username       string
	Home           string // empty: the image does not know the user
}

// Node is what all containers of the node share.
type Node struct {
	Host Host
	// Rlimits are given to every container, as far as Berth may raise them.
	Rlimits []specs.POSIXRlimit
	// SeccompDefault is the profile that RuntimeDefault stands for; empty: the
	// built-in one.
	SeccompDefault []byte
}

// Host is what the machine offers, see DetectHost.
type Host struct {
	Hostname string
	// CgroupV2 says that all controllers are on cgroup2.
	CgroupV2 bool
	// CgroupOptions are mount options of the host's cgroup2 that a mount without
	// a cgroup namespace has to repeat.
	CgroupOptions []string
	Swap          bool // the memory controller counts swap
	// HugepageSizes are those that can be limited ("2MB"); none without the
	// hugetlb controller.
	HugepageSizes []string
	// Capabilities that Berth holds, as CAP_NAME, and all that the kernel has.
	Capabilities, KernelCapabilities []string
	// RlimitMax are Berth's own hard limits, by type. Without
	// CAP_SYS_RESOURCE no process gets more.
	RlimitMax   map[string]uint64
	OOMScoreAdj int // Berth's own
	Seccomp     bool
}

func (h Host) has(capability string) bool { return slices.Contains(h.Capabilities, capability) }

func (in *Input) security() *runtimeapi.LinuxContainerSecurityContext {
	return in.Config.GetLinux().GetSecurityContext()
}

func (in *Input) privileged() bool { return in.security().GetPrivileged() }
