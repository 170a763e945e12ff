package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// maxSocketPath is the room in sockaddr_un.sun_path, less the final zero.
const maxSocketPath = 107

var (
	// A bridge name is an interface name: IFNAMSIZ-1 bytes, no slash or space.
	interfaceName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,15}$`)
	// As for a RuntimeClass handler: a DNS label.
	handlerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

	// getrlimit(2), without the prefix.
	rlimitNames = []string{
		"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
		"nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
	}
)

// checker collects problems.
type checker struct {
	c        *Config
	problems []error
}

// Validate checks every value and returns all that is wrong, joined. It looks
// at values only, never at the disk: whether a file is there is for the one
// who opens it to say.
func (c *Config) Validate() error {
	v := &checker{c: c}
	v.places()
	v.cgroup()
	v.log()
	v.image()
	v.cni()
	v.container()
	v.streaming()
	v.telemetry()
	v.nri()
	v.runtimes()
	return errors.Join(v.problems...)
}

func (v *checker) bad(key, format string, args ...any) {
	v.problems = append(v.problems, &Problem{
		File: v.where(key), Key: key, Reason: fmt.Sprintf(format, args...),
	})
}

// Blame says that a value which is right by itself cannot be used: what it names
// is missing, say.
func (c *Config) Blame(key string, err error) error {
	return &Problem{File: (&checker{c: c}).where(key), Key: key, Reason: err.Error(), cause: err}
}

// where finds the file of a key, or of the table around it.
func (v *checker) where(key string) string {
	for {
		if file, ok := v.c.origin[key]; ok {
			return file
		}
		dot := strings.LastIndexByte(key, '.')
		if dot < 0 {
			return ""
		}
		key = key[:dot]
	}
}

func (v *checker) path(key, value string) {
	switch {
	case value == "":
		v.bad(key, "must not be empty")
	case !filepath.IsAbs(value):
		v.bad(key, "%q is not an absolute path", value)
	case strings.ContainsRune(value, 0):
		v.bad(key, "%q holds a zero byte", value)
	}
}

func (v *checker) optionalPath(key, value string) {
	if value != "" {
		v.path(key, value)
	}
}

func (v *checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		v.bad(key, "%q is not one of %q", value, allowed)
	}
}

func (v *checker) between(key string, value, low, high int64) {
	if value < low || value > high {
		v.bad(key, "%d is not between %d and %d", value, low, high)
	}
}

func (v *checker) places() {
	v.path("root", v.c.Root)
	v.path("state", v.c.State)
	// One is swept at a reboot and the other is not, so neither may hold the other.
	if within(v.c.Root, v.c.State) || within(v.c.State, v.c.Root) {
		v.bad("state", "%q and root %q must not lie within each other", v.c.State, v.c.Root)
	}
	// Everything in the state directory that is a socket: berth.sock and monitor.sock.
	if socket := filepath.Join(v.c.State, "monitor.sock"); len(socket) > maxSocketPath {
		v.bad("state", "too long: the socket %q would have %d bytes, the kernel takes %d", socket, len(socket), maxSocketPath)
	}
	if v.c.Listen != "" { // empty before Load completes it
		v.path("listen", v.c.Listen)
		if len(v.c.Listen) > maxSocketPath {
			v.bad("listen", "%d bytes, the kernel takes %d", len(v.c.Listen), maxSocketPath)
		}
	}
	v.optionalPath("helpers.monitor", v.c.Helpers.Monitor)
	v.optionalPath("helpers.init", v.c.Helpers.Init)
	// Below 4 MiB a full list of a node does not fit; gRPC counts in int.
	v.between("grpc.max_recv_message_size", int64(v.c.GRPC.MaxRecvMessageSize), 4<<20, 1<<30)
	v.between("grpc.max_send_message_size", int64(v.c.GRPC.MaxSendMessageSize), 4<<20, 1<<30)
}

// within says whether inner is outer or below it.
func within(outer, inner string) bool {
	rel, err := filepath.Rel(outer, inner)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func (v *checker) cgroup() {
	switch v.c.CgroupDriver {
	case "", "cgroupfs", "systemd":
	default:
		v.bad("cgroup_driver", `%q is neither "cgroupfs" nor "systemd" nor empty`, v.c.CgroupDriver)
	}
	// Without a driver here, the one that is found on the host will say more.
	parent, slice := v.c.DefaultCgroupParent, strings.HasSuffix(v.c.DefaultCgroupParent, ".slice")
	switch {
	case parent == "":
	case slice && v.c.CgroupDriver == "cgroupfs":
		v.bad("default_cgroup_parent", "%q is a name for the systemd driver; the cgroupfs driver takes a path", parent)
	case slice:
	case v.c.CgroupDriver == "systemd":
		v.bad("default_cgroup_parent", "%q is not a slice, such as berth.slice, which the systemd driver takes", parent)
	default:
		v.path("default_cgroup_parent", parent)
		if parent != filepath.Clean(parent) || parent == "/" {
			v.bad("default_cgroup_parent", "%q is not a plain path below the root cgroup", parent)
		}
	}
}

func (v *checker) log() {
	v.oneOf("log.level", v.c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", v.c.Log.Format, "text", "json")
}

func (v *checker) telemetry() {
	if a := v.c.Metrics.Address; a != "" {
		if path, ok := strings.CutPrefix(a, "unix://"); ok {
			v.path("metrics.address", path)
			if len(path) > maxSocketPath {
				v.bad("metrics.address", "%d bytes, the kernel takes %d", len(path), maxSocketPath)
			}
		} else if _, err := netip.ParseAddrPort(a); err != nil {
			v.bad("metrics.address", `%q is neither an address and port such as "127.0.0.1:9479" nor "unix:///PATH"`, a)
		}
	}
	t := v.c.Tracing
	if t.Endpoint != "" {
		if host, port, err := net.SplitHostPort(t.Endpoint); err != nil || host == "" || port == "" {
			v.bad("tracing.endpoint", `%q is no HOST:PORT`, t.Endpoint)
		}
	}
	v.oneOf("tracing.protocol", t.Protocol, "grpc", "http")
	if !(t.SamplingRatio >= 0 && t.SamplingRatio <= 1) { // NaN is neither
		v.bad("tracing.sampling_ratio", "%v is not between 0 and 1", t.SamplingRatio)
	}
}

func (v *checker) image() {
	i := v.c.Image
	v.path("image.registry_config_dir", i.RegistryConfigDir)
	v.between("image.max_concurrent_layers", int64(i.MaxConcurrentLayers), 1, 64)
	if i.PullProgressTimeout.Duration < 0 {
		v.bad("image.pull_progress_timeout", "%s is negative", i.PullProgressTimeout)
	}
	for _, ref := range i.Pinned {
		prefix := strings.TrimSuffix(ref, "*")
		if prefix == "" || strings.ContainsAny(prefix, "* \t\n") {
			v.bad("image.pinned", `%q is neither a reference nor a prefix that ends in "*"`, ref)
		}
	}
}

func (v *checker) cni() {
	n := v.c.CNI
	v.path("cni.conf_dir", n.ConfDir)
	for _, dir := range n.BinDirs {
		v.path("cni.bin_dirs", dir)
		// The plugins get them as CNI_PATH, a list with colons.
		if strings.Contains(dir, ":") {
			v.bad("cni.bin_dirs", "%q holds a colon", dir)
		}
	}
	v.between("cni.max_conf_num", int64(n.MaxConfNum), 0, 64)
	v.optionalPath("cni.conf_template", n.ConfTemplate)
	if !interfaceName.MatchString(n.BuiltinBridge) || n.BuiltinBridge == "." || n.BuiltinBridge == ".." {
		v.bad("cni.builtin_bridge", "%q is no interface name of at most 15 characters", n.BuiltinBridge)
	}
	v.subnets("cni.builtin_subnets", n.BuiltinSubnets)
}

func (v *checker) subnets(key string, subnets []string) {
	if len(subnets) == 0 {
		v.bad(key, "must not be empty")
	}
	seen := map[bool]string{} // by "is IPv4"
	for _, s := range subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Addr().Is4In6() {
			v.bad(key, "%q is no subnet such as 10.86.0.0/16", s)
			continue
		}
		v4 := p.Addr().Is4()
		switch {
		case p != p.Masked():
			v.bad(key, "%q has host bits set; the subnet is %s", s, p.Masked())
		case p.Addr().BitLen()-p.Bits() < 3:
			v.bad(key, "%q has no room for a gateway and a few pods", s)
		case seen[v4] != "":
			v.bad(key, "%q and %q are of one address family", seen[v4], s)
		}
		seen[v4] = s
	}
}

func (v *checker) container() {
	t := v.c.Container
	for _, name := range sortedKeys(t.Rlimits) {
		key, limit := "container.rlimits."+name, t.Rlimits[name]
		if !slices.Contains(rlimitNames, name) {
			v.bad(key, "unknown resource; known are %q", rlimitNames)
		}
		if limit.Soft > limit.Hard {
			v.bad(key, "the soft limit %d is above the hard limit %d", limit.Soft, limit.Hard)
		}
	}
	v.optionalPath("container.seccomp_profile", t.SeccompProfile)
	if p := t.AppArmorProfile; p == "" || strings.ContainsAny(p, "\x00\n") {
		v.bad("container.apparmor_profile", `%q is no name of a profile; none is "unconfined"`, p)
	}
	for _, dir := range t.CDISpecDirs {
		v.path("container.cdi_spec_dirs", dir)
	}
	if t.KillTimeout.Duration <= 0 {
		v.bad("container.kill_timeout", "%s is not above zero", t.KillTimeout)
	}
	if t.ExecDrainTimeout.Duration <= 0 {
		v.bad("container.exec_drain_timeout", "%s is not above zero", t.ExecDrainTimeout)
	}
}

func (v *checker) streaming() {
	s := v.c.Streaming
	if a, err := netip.ParseAddr(s.Address); err != nil || a.Zone() != "" {
		v.bad("streaming.address", "%q is no IP address", s.Address)
	}
	v.between("streaming.port", int64(s.Port), 0, 65535)
	v.optionalPath("streaming.tls_cert_file", s.TLSCertFile)
	v.optionalPath("streaming.tls_key_file", s.TLSKeyFile)
	switch {
	case (s.TLSCertFile == "") != (s.TLSKeyFile == ""):
		v.bad("streaming.tls_cert_file", "a certificate and its key go together: set both, or none for a self-signed one")
	case s.TLSCertFile != "" && !s.TLS:
		v.bad("streaming.tls_cert_file", "would not be used: streaming.tls is false")
	}
	if s.IdleTimeout.Duration < 0 {
		v.bad("streaming.idle_timeout", "%s is negative", s.IdleTimeout)
	}
	if s.CreationTimeout.Duration <= 0 {
		v.bad("streaming.creation_timeout", "%s is not above zero", s.CreationTimeout)
	}
}

func (v *checker) nri() {
	n := v.c.NRI
	v.optionalPath("nri.socket_path", n.SocketPath)
	if len(n.SocketPath) > maxSocketPath {
		v.bad("nri.socket_path", "%d bytes, the kernel takes %d", len(n.SocketPath), maxSocketPath)
	}
	v.path("nri.plugin_path", n.PluginPath)
	v.path("nri.plugin_config_path", n.PluginConfigPath)
	if n.RegistrationTimeout.Duration < time.Millisecond { // plugins are told whole milliseconds
		v.bad("nri.plugin_registration_timeout", "%s is below a millisecond", n.RegistrationTimeout)
	}
	if n.RequestTimeout.Duration < time.Millisecond {
		v.bad("nri.plugin_request_timeout", "%s is below a millisecond", n.RequestTimeout)
	}
	val := n.Validator
	switch {
	case val.Enable && !n.Enable:
		v.bad("nri.default_validator.enable", "would do nothing: nri.enable is false")
	case !val.Enable && (len(val.RequiredPlugins) > 0 || val.MissingPluginTolerance != "" ||
		val.RejectHooks || val.RejectDefaultSeccomp || val.RejectUnconfined || val.RejectLocalSeccomp ||
		val.RejectNamespaces || val.RejectSysctls):
		v.bad("nri.default_validator", "would do nothing: its enable is false")
	}
	for _, name := range val.RequiredPlugins {
		if name == "" {
			v.bad("nri.default_validator.required_plugins", "has an empty name")
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
