package external

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci"
)

// Overlay is the root file system of a container as layers.
type Overlay struct {
	Lower    []string // directories, topmost first
	Upper    string
	Work     string
	Volatile bool
}

// subdirOption says which path of a mount's source is to be mounted, as in
// package spec.
const subdirOption = "X-mount.subdir="

// oldVersion of the runtime-spec is what those get that do not tell which they
// know: crun before 1.8.6 refuses a later one. Nothing here depends on it.
const oldVersion = "1.0.2"

// Compile changes a spec into one that the runtime can read, and makes the plan of
// what is to be mounted before the runtime is called.
func (r *Runtime) Compile(spec *specs.Spec, root Overlay, id, bundle string) (oci.Prepared, error) {
	if spec.Process == nil || spec.Linux == nil {
		return oci.Prepared{}, fmt.Errorf("process or linux is missing: %w", errdefs.ErrInvalidArgument)
	}
	for _, text := range append(spec.Process.Env[:len(spec.Process.Env):len(spec.Process.Env)], spec.Process.Args...) {
		if !utf8.ValidString(text) {
			return oci.Prepared{}, fmt.Errorf("arguments or environment are not UTF-8, and the handler %s reads JSON: %w", r.Name, errdefs.ErrNotImplemented)
		}
	}
	c := r.Container(id, bundle)
	p := oci.Prepared{
		External: &c, Terminal: spec.Process.Terminal, OOMScoreAdj: spec.Process.OOMScoreAdj,
		UID: spec.Process.User.UID, GID: spec.Process.User.GID,
	}
	plan := mountPlan{Root: tree{Lower: root.Lower, Upper: root.Upper, Work: root.Work, Volatile: root.Volatile, Label: spec.Linux.MountLabel}}
	for _, n := range spec.Linux.Namespaces {
		if n.Path == "" {
			continue
		}
		p.Join = append(p.Join, oci.Namespace{Type: n.Type, Path: n.Path})
		if n.Type == specs.UserNamespace {
			plan.UserNamespace, plan.Root.Mapped = n.Path, true
			p.UID, p.GID = hostID(p.UID, spec.Linux.UIDMappings), hostID(p.GID, spec.Linux.GIDMappings)
		}
	}
	if !r.Features.Known {
		spec.Version = oldVersion
	}
	spec.Root = &specs.Root{Path: filepath.Join(r.Area, rootDir), Readonly: spec.Root != nil && spec.Root.Readonly}
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		if err := r.checkOptions(m.Options); err != nil {
			return p, fmt.Errorf("mounts[%d] at %s: %w", i, m.Destination, err)
		}
		if plan.UserNamespace != "" {
			keepFlags(m)
		}
		if v, ours := volume(m); ours {
			v.Label = spec.Linux.MountLabel
			m.Source = filepath.Join(r.Area, volumesDir, strconv.Itoa(len(plan.Volumes)))
			plan.Volumes = append(plan.Volumes, v)
		}
	}
	var err error
	if p.Plan, err = json.Marshal(plan); err != nil {
		return p, fmt.Errorf("encode mounts: %w", err)
	}
	return p, nil
}

// hostID is the host's id of one of the container; one that is not mapped is
// refused by the runtime.
func hostID(id uint32, list []specs.LinuxIDMapping) uint32 {
	for _, m := range list {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + (id - m.ContainerID)
		}
	}
	return id
}

// checkOptions refuses what the runtime has said not to know. One that has told
// nothing gets everything but what it could mistake for data of a file system.
func (r *Runtime) checkOptions(options []string) error {
	for _, o := range options {
		recursive := slices.Contains(recursiveOptions, o)
		if recursive && !r.Features.Has(o) {
			return fmt.Errorf("option %s: the runtime handler %s does not know it: %w", o, r.Name, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// keepFlags repeats flags that the source of a bind mount has. In a user namespace
// they are locked, and runc before 1.2 tries to take away what is not repeated.
func keepFlags(m *specs.Mount) {
	var st unix.Statfs_t
	if !filepath.IsAbs(m.Source) || unix.Statfs(m.Source, &st) != nil {
		return
	}
	for option, flag := range map[string]int64{"nosuid": unix.ST_NOSUID, "nodev": unix.ST_NODEV, "noexec": unix.ST_NOEXEC} {
		if st.Flags&flag != 0 && !slices.Contains(m.Options, option) {
			m.Options = append(m.Options, option)
		}
	}
}

// recursiveOptions came with mount_setattr(2), and so late to runtimes.
var recursiveOptions = []string{
	"rro", "rnosuid", "rnodev", "rnoexec", "rnosymfollow", "rnoatime", "rnodiratime", "rrelatime",
}

// volume takes a mount over that a runtime may not know how to make: layers of an
// image, a path in something else, one that shows other ids. What is left for the
// runtime is to bind it.
func volume(m *specs.Mount) (v tree, ours bool) {
	bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
	recursive := slices.Contains(m.Options, "rbind")
	v.Mapped = len(m.UIDMappings)+len(m.GIDMappings) > 0 || slices.Contains(m.Options, "idmap") || slices.Contains(m.Options, "ridmap")
	var rest []string
	for _, o := range m.Options {
		if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok && m.Type == "overlay" {
			v.Lower = splitLayers(dirs)
		} else if path, ok := strings.CutPrefix(o, subdirOption); ok {
			v.SubPath = path
		} else if o != "idmap" && o != "ridmap" && o != "bind" && o != "rbind" {
			rest = append(rest, o)
		}
	}
	if !bind && len(v.Lower) == 0 && v.SubPath == "" {
		return v, false
	}
	if bind && !v.Mapped && v.SubPath == "" {
		return v, false
	}
	if bind {
		v.Bind, v.Recursive, v.MapBelow = m.Source, recursive, slices.Contains(m.Options, "ridmap")
	}
	m.Type, m.UIDMappings, m.GIDMappings = "bind", nil, nil
	m.Options = append([]string{"bind"}, rest...)
	if recursive {
		m.Options[0] = "rbind"
	}
	return v, true
}

// splitLayers splits at colons; one that belongs to a path has a backslash in
// front, as the kernel has it.
func splitLayers(text string) []string {
	dirs, dir := []string{}, strings.Builder{}
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			dir.WriteByte(text[i])
		case text[i] == ':':
			dirs = append(dirs, dir.String())
			dir.Reset()
		default:
			dir.WriteByte(text[i])
		}
	}
	return append(dirs, dir.String())
}

// CompileExec is the plan of a command in a container with this spec: the process
// as the runtime gets it.
func CompileExec(c oci.External, spec *specs.Spec, p *specs.Process) (oci.Prepared, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return oci.Prepared{}, fmt.Errorf("encode process: %w", err)
	}
	return oci.Prepared{
		External: &c, Plan: b, Terminal: p.Terminal, OOMScoreAdj: p.OOMScoreAdj,
		UID: hostID(p.User.UID, spec.Linux.UIDMappings), GID: hostID(p.User.GID, spec.Linux.GIDMappings),
	}, nil
}

// WithCommand returns the plan of an exec with other arguments and limits of now.
func WithCommand(plan []byte, args []string, oomScoreAdj *int) ([]byte, error) {
	if i := slices.IndexFunc(args, func(a string) bool { return strings.ContainsRune(a, 0) }); i >= 0 {
		return nil, fmt.Errorf("process.args[%d] has a NUL: %w", i, errdefs.ErrInvalidArgument)
	}
	if slices.ContainsFunc(args, func(a string) bool { return !utf8.ValidString(a) }) {
		return nil, fmt.Errorf("process.args are not UTF-8, and an OCI runtime reads JSON: %w", errdefs.ErrNotImplemented)
	}
	var p specs.Process
	if err := json.Unmarshal(plan, &p); err != nil {
		return nil, fmt.Errorf("read the process of an exec: %w: %w", err, errdefs.ErrDataLoss)
	}
	p.Args, p.OOMScoreAdj = args, oomScoreAdj
	return json.Marshal(p)
}
