package spec

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Short names for the CRI's long ones.
type (
	podConfig = runtimeapi.PodSandboxConfig
	container = runtimeapi.ContainerConfig
	security  = runtimeapi.LinuxContainerSecurityContext
	nsOptions = runtimeapi.NamespaceOption
	limits    = runtimeapi.LinuxContainerResources
)

const (
	modePod       = runtimeapi.NamespaceMode_POD
	modeContainer = runtimeapi.NamespaceMode_CONTAINER
	modeNode      = runtimeapi.NamespaceMode_NODE
	modeTarget    = runtimeapi.NamespaceMode_TARGET
)

// allHeld is what a Berth with all capabilities holds, less the two that some
// tests miss.
func allHeld() []string {
	return slices.DeleteFunc(slices.Clone(knownCapabilities), func(c string) bool {
		return c == "CAP_SYS_RESOURCE" || c == "CAP_WAKE_ALARM"
	})
}

// input is an ordinary container in an ordinary pod: own namespaces for all but
// processes, cgroup v1.
func input() Input {
	return Input{
		Pod: Pod{
			ID: "pod1",
			Config: &podConfig{
				Metadata: &runtimeapi.PodSandboxMetadata{Name: "web", Namespace: "default", Uid: "u-1"},
				Hostname: "web-0",
				Linux:    &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &nsOptions{Pid: modeContainer}}},
			},
			Namespaces: map[specs.LinuxNamespaceType]string{
				specs.NetworkNamespace: "/run/berth/pods/pod1/ns/net",
				specs.IPCNamespace:     "/run/berth/pods/pod1/ns/ipc",
				specs.UTSNamespace:     "/run/berth/pods/pod1/ns/uts",
			},
			Hostname: "/run/berth/pods/pod1/hostname", Hosts: "/run/berth/pods/pod1/hosts",
			ResolvConf: "/run/berth/pods/pod1/resolv.conf", Shm: "/run/berth/pods/pod1/shm",
		},
		Config: &container{
			Metadata: &runtimeapi.ContainerMetadata{Name: "nginx"},
			Image:    &runtimeapi.ImageSpec{Image: "sha256:abc"},
			Linux: &runtimeapi.LinuxContainerConfig{
				Resources:       &limits{},
				SecurityContext: &security{NamespaceOptions: &nsOptions{Pid: modeContainer}},
			},
		},
		Image:       ocispec.ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, Env: []string{"A=image", "B=image"}},
		ImageName:   "nginx:1",
		CgroupsPath: "/kubepods/pod1/c1",
		Node: Node{
			Host: Host{Hostname: "node1", Swap: true, Capabilities: allHeld(), Seccomp: true,
				RlimitMax: map[string]uint64{"RLIMIT_NOFILE": 4096}, OOMScoreAdj: -5},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 524288}},
		},
	}
}

// on applies changes to the ordinary input.
func on(change ...func(*Input)) Input {
	in := input()
	for _, c := range change {
		c(&in)
	}
	return in
}

func secure(f func(*security)) func(*Input) {
	return func(in *Input) { f(in.Config.Linux.SecurityContext) }
}

func limit(l *limits) func(*Input) {
	return func(in *Input) { in.Config.Linux.Resources = l }
}

func privileged(in *Input) {
	in.Config.Linux.SecurityContext.Privileged = true
	in.Pod.Config.Linux.SecurityContext.Privileged = true
	mode := os.FileMode(0o660)
	id := uint32(0)
	in.Resolved.HostDevices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: &mode, UID: &id, GID: &id}}
}

func cgroupV2(in *Input) {
	in.Node.Host.CgroupV2 = true
	in.Node.Host.CgroupOptions = []string{"nsdelegate", "memory_recursiveprot"}
	in.Node.Host.HugepageSizes = []string{"2MB", "1GB"}
}

func hostNamespaces(in *Input) {
	in.Pod.Namespaces = nil
	o := &nsOptions{Network: modeNode, Pid: modeNode, Ipc: modeNode}
	in.Pod.Config.Linux.SecurityContext.NamespaceOptions = o
	in.Config.Linux.SecurityContext.NamespaceOptions = o
}

func sharedPID(in *Input) {
	in.Pod.Namespaces[specs.PIDNamespace] = "/run/berth/pods/pod1/ns/pid"
	in.Pod.Config.Linux.SecurityContext.NamespaceOptions.Pid = modePod
	in.Config.Linux.SecurityContext.NamespaceOptions.Pid = modePod
}

// mount adds a mount of the request whose source was found at from.
func mount(m *runtimeapi.Mount, from Source) func(*Input) {
	return func(in *Input) {
		in.Config.Mounts = append(in.Config.Mounts, m)
		in.Resolved.Mounts = append(in.Resolved.Mounts, from)
	}
}

// shapes are whole containers, each with a golden file.
var shapes = map[string]Input{
	"ordinary":                on(),
	"host namespaces":         on(hostNamespaces),
	"user namespace":          on(inUserns, mount(&runtimeapi.Mount{ContainerPath: "/v", HostPath: "/h", UidMappings: ids(100000, 65536), GidMappings: ids(200000, 65536)}, Source{Path: "/h"})),
	"privileged":              on(privileged),
	"privileged on cgroup v2": on(privileged, cgroupV2),
	"shared processes":        on(sharedPID),
	"target of another container": on(func(in *Input) {
		in.Config.Linux.SecurityContext.NamespaceOptions = &nsOptions{Pid: modeTarget, TargetId: "c0"}
		in.Pod.TargetPID = "/proc/4711/ns/pid"
	}),
	"restricted, non-root, cgroup v2": on(cgroupV2, secure(func(s *security) {
		s.RunAsUser = &runtimeapi.Int64Value{Value: 1000}
		s.SupplementalGroups = []int64{2000}
		s.NoNewPrivs, s.ReadonlyRootfs = true, true
		s.Capabilities = &runtimeapi.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_BIND_SERVICE"}}
		s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "/profiles/x.json"}
		s.MaskedPaths, s.ReadonlyPaths = []string{"/proc/kcore"}, []string{"/proc/sys"}
	}), func(in *Input) {
		in.User = User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 50000}, Username: "app", Home: "/home/app"}
		in.Resolved.SeccompProfile = []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}`)
	}, limit(&limits{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, CpusetCpus: "0-1", MemoryLimitInBytes: 64 << 20, OomScoreAdj: 900,
		HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}, {PageSize: "1GB"}}, Unified: map[string]string{"memory.high": "60000000"}})),
	"terminal, mounts and devices": on(func(in *Input) {
		in.Config.Tty, in.Config.Stdin = true, true
		in.Config.Command, in.Config.Args, in.Config.WorkingDir = []string{"sh"}, []string{"-i"}, "/work"
		in.Config.Envs = []*runtimeapi.KeyValue{{Key: "B", Value: []byte("request")}, {Key: "TERM", Value: []byte("linux")}}
		mode, id := os.FileMode(0o600), uint32(0)
		in.Resolved.Devices = []Device{{Node: specs.LinuxDevice{Path: "/dev/loop0", Type: "b", Major: 7, FileMode: &mode, UID: &id, GID: &id}, Access: "r"}}
	},
		mount(&runtimeapi.Mount{ContainerPath: "/data/deep/er", HostPath: "/x"}, Source{Path: "/x"}),
		mount(&runtimeapi.Mount{ContainerPath: "/etc/hosts", HostPath: "/h", Readonly: true}, Source{Path: "/h"}),
		mount(&runtimeapi.Mount{ContainerPath: "/data/", HostPath: "/d", Propagation: runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL}, Source{Path: "/d", MountPoint: "/", Shared: true}),
		mount(&runtimeapi.Mount{ContainerPath: "/secret", HostPath: "/s", Readonly: true, RecursiveReadOnly: true}, Source{Path: "/s"}),
	),
}

func TestShapes(t *testing.T) {
	for shape, in := range shapes {
		t.Run(shape, func(t *testing.T) {
			before, _ := json.Marshal(in)
			s, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			if after, _ := json.Marshal(in); !bytes.Equal(before, after) {
				t.Error("Build changed its input")
			}
			got, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			file := filepath.Join("testdata", strings.NewReplacer(" ", "-", ",", "").Replace(shape)+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the spec differs from %s (go test -update writes it anew):\n%s", file, got)
			}
		})
	}
}

// The list of steps is what a reader goes by: each stands once, and errors name
// theirs.
func TestSteps(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range steps {
		if seen[s.name] || s.apply == nil {
			t.Errorf("step %q stands twice or does nothing", s.name)
		}
		seen[s.name] = true
	}
	_, err := Build(on(func(in *Input) { in.Image = ocispec.ImageConfig{} }))
	if err == nil || !strings.Contains(err.Error(), `spec step "process"`) || !strings.Contains(err.Error(), "nginx:1") {
		t.Errorf("got error %v", err)
	}
}
