package house

// levels says how high each folder stands; the longest match counts. A package
// may import what stands lower. Folders of one level may import each other
// only as beside says.
var levels = map[string]int{
	"cmd": 5,

	"cri": 4,

	"runtime/pod":       3,
	"runtime/container": 3,
	"runtime/nri":       3,
	"runtime/reconcile": 3,

	"runtime/apparmor": 2,
	"runtime/cdi":      2,
	"runtime/cgroup":   2,
	"runtime/handler":  2,
	"runtime/index":    2,
	"runtime/monitor":  2,
	"runtime/oci":      2,
	"runtime/rootfs":   2,
	"runtime/selinux":  2,
	"runtime/spec":     2,
	"runtime/stats":    2,
	"imageservice":     2,
	"cni":              2,

	"atomicfile": 1,
	"config":     1,
	"fault":      1,
	"linux":      1,
	"telemetry":  1,
	"trash":      1,
	"undo":       1,
}

// beside lists the imports within one level, by folder: each package from the
// first may import those of the others.
var beside = map[string][]string{
	"cmd/berth": {"cmd/berth/operator"},

	"cri": {"cri/interceptor", "cri/streaming", "cri/events", "cri/metrics"},

	"runtime/container": {"runtime/pod"},
	"runtime/nri":       {"runtime/pod", "runtime/container"},
	"runtime/reconcile": {"runtime/pod", "runtime/container"},

	"runtime/monitor":      {"runtime/monitor/logs", "runtime/oci", "runtime/oci/embedded"},
	"runtime/oci/hooks":    {"runtime/oci"},
	"runtime/oci/embedded": {"runtime/oci", "runtime/oci/hooks", "runtime/oci/embedded/plan", "runtime/oci/embedded/seccomp"},
	"runtime/oci/external": {"runtime/oci"},
	"runtime/handler":      {"runtime/oci/external"},
	"runtime/rootfs":       {"runtime/oci", "runtime/oci/embedded"}, // the overlay that the init mounts

	"imageservice":          {"imageservice/pull", "imageservice/reference", "imageservice/registry", "imageservice/layer", "imageservice/store"},
	"imageservice/pull":     {"imageservice/reference", "imageservice/registry", "imageservice/layer", "imageservice/store"},
	"imageservice/registry": {"imageservice/reference"},

	"cni/network": {"cni/builtin", "cni/netns"},
	"cni/builtin": {"cni/netns"},
	"cni/nettest": {"cni/netns"}, // for tests

	"atomicfile":       {"linux", "fault"},
	"telemetry/export": {"telemetry"},
	"trash":            {"linux", "fault"},
	"linux/namespace":  {"linux"},
	"linux/overlay":    {"linux", "linux/namespace"},
	"linux/probe":      {"linux", "linux/namespace"},
}

// limit keeps packages out of everything that a program links.
type limit struct {
	pkg    string   // the program, below the module
	denied []string // import paths, or their beginnings
	only   []string // if set: the only imports from outside of module and standard library
	why    string
}

var limits = []limit{
	{
		pkg: "cmd/berth-monitor",
		denied: []string{
			"google.golang.org/grpc", "google.golang.org/protobuf", "k8s.io/", "github.com/google/go-containerregistry",
			"github.com/containernetworking/", "github.com/vishvananda/netlink", "github.com/google/nftables",
			"github.com/spf13/", "github.com/pelletier/", "net/http", "crypto/tls",
			"github.com/containerd/nri", "github.com/containerd/ttrpc", "github.com/tetratelabs/wazero",
		},
		why: "the monitor is small: no gRPC, no images, no network, no Kubernetes",
	},
	{
		pkg:    "cmd/berth-init",
		denied: []string{"fmt", "encoding/json", "reflect", "os", "net", "log", "log/slog", "text/template", "regexp", "strconv"},
		only:   []string{"golang.org/x/sys"},
		why:    "berth-init starts in less than a millisecond",
	},
}

// direct says who may import a module by its own hand.
type direct struct {
	pkg     string
	folders []string
	why     string
}

var directs = []direct{
	{"google.golang.org/grpc", []string{"cri", "cmd/berth", "telemetry/export"}, "the wire protocol ends in cri"},
	{"github.com/google/go-containerregistry", []string{"imageservice"}, "registries are imageservice's"},
	{"github.com/containernetworking", []string{"cni"}, "CNI is cni's"},
	{"github.com/vishvananda/netlink", []string{"cni", "linux/probe"}, "the network is cni's"},
	{"github.com/google/nftables", []string{"cni", "linux/probe"}, "the network is cni's"},
	{"github.com/pelletier/go-toml", []string{"config", "imageservice/registry"}, "config and hosts.toml are the TOML here"},
	{"github.com/containerd/nri", []string{"runtime/nri"}, "plugins of the node are runtime/nri's"},
	{"github.com/prometheus", []string{"telemetry"}, "metrics are telemetry's"},
	{"go.opentelemetry.io", []string{"telemetry"}, "traces are telemetry's"},
	{"github.com/spf13", []string{"cmd/berth"}, "commands and flags are cmd's"},
}
