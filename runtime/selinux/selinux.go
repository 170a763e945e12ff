package selinux

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Labels are those of a pod or a container. Empty ones leave it to the policy.
type Labels struct {
	Process string `json:"process,omitempty"`
	Mount   string `json:"mount,omitempty"` // of its files
	// Own says that the level was made for the pod and is free when it is gone.
	Own bool `json:"own,omitempty"`
}

// MountData is data for mount(2) of a file system that gets the label of the
// files as a whole.
func (l Labels) MountData(data string) string { return label.FormatMountLabel(data, l.Mount) }

// SELinux is that of the host. Nil is none.
type SELinux struct{ system system }

// Open uses the host's SELinux, if it has one.
func Open() *SELinux { return with(host{}) }

func with(s system) *SELinux {
	if !s.Enabled() {
		return nil
	}
	return &SELinux{s}
}

// Pod makes the labels of a new pod.
func (l *SELinux) Pod(o *runtimeapi.SELinuxOption) (Labels, error) {
	if l == nil {
		return Labels{}, nil
	}
	return l.make(options(o))
}

// make begins with what the host's policy has for containers, and a level that
// no pod of this node has.
func (l *SELinux) make(options []string) (Labels, error) {
	process, mount, err := l.system.Make(options)
	if err != nil {
		return Labels{}, fmt.Errorf("linux.security_context.selinux_options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	own := !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "level:") })
	labels := Labels{Process: process, Mount: mount, Own: own}
	// Better now than as "invalid argument" of a mount or of execve.
	for _, label := range []string{process, mount} {
		if label == "" {
			continue
		}
		if err := l.system.Check(label); err != nil {
			l.Release(labels)
			if len(options) == 0 {
				return Labels{}, fmt.Errorf("the host's SELinux policy is not for containers: it does not know %q: %w: %w", label, err, errdefs.ErrFailedPrecondition)
			}
			return Labels{}, fmt.Errorf("linux.security_context.selinux_options: the host's policy does not know %q: %w: %w", label, err, errdefs.ErrInvalidArgument)
		}
	}
	return labels, nil
}

// Container makes the labels of a container: the pod's, but for what it asks for
// itself.
func (l *SELinux) Container(pod Labels, podConfig *runtimeapi.LinuxSandboxSecurityContext, sc *runtimeapi.LinuxContainerSecurityContext) (Labels, error) {
	if l == nil || pod.Process == "" {
		return Labels{}, nil
	}
	own := options(sc.GetSelinuxOptions())
	labels := pod
	if len(own) > 0 {
		var err error
		if labels, err = l.make(over(parts(pod.Process), own)); err != nil {
			return Labels{}, err
		}
	}
	labels.Own = false // the level goes with the pod; one that was asked for is nobody's
	ns := sc.GetNamespaceOptions()
	node := ns.GetPid() == runtimeapi.NamespaceMode_NODE || ns.GetIpc() == runtimeapi.NamespaceMode_NODE
	switch asked := len(own) > 0 || len(options(podConfig.GetSelinuxOptions())) > 0; {
	case sc.GetPrivileged():
		// The policy's own way from a runtime to its privileged containers (spc_t),
		// as with containerd and CRI-O, whatever was asked for.
		labels.Process = ""
	case node && !asked:
		// It could not see the processes, or the memory, of whose namespace it is in
		// (CRI-O and Docker).
		labels.Process = ""
	}
	return labels, nil
}

// Reserve keeps the level of a pod of an earlier daemon from being given out.
func (l *SELinux) Reserve(labels Labels) {
	if l != nil && labels.Process != "" {
		l.system.Reserve(labels.Process)
	}
}

// Release frees the level of a pod that is gone. One that was asked for stays
// reserved while the daemon lives: others may have asked for it too, and no
// other pod shall get it by chance.
func (l *SELinux) Release(labels Labels) {
	if l != nil && labels.Own && labels.Process != "" {
		l.system.Release(labels.Process)
	}
}

// superPrivileged is the type of containers that nothing is forbidden to.
const superPrivileged = "spc_t"

// Relabel gives a volume, with all that is in it, to the container alone. That
// of a directory that the host itself needs, such as / or /usr, is refused. It
// does nothing for a container that may use every file anyway (CRI-O). On a file
// system without labels there is nothing to do.
func (l *SELinux) Relabel(path string, labels Labels) error {
	if l == nil || labels.Mount == "" || typeOf(labels.Process) == superPrivileged {
		return nil
	}
	if err := l.system.Relabel(path, labels.Mount); err != nil && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("relabel %s: %w: %w", path, err, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// options are in the words of the library.
func options(o *runtimeapi.SELinuxOption) []string {
	var list []string
	for _, p := range []struct{ key, value string }{
		{"user", o.GetUser()}, {"role", o.GetRole()}, {"type", o.GetType()}, {"level", o.GetLevel()},
	} {
		if p.value != "" {
			list = append(list, p.key+":"+p.value)
		}
	}
	return list
}

// parts takes a label apart: the level may have colons.
func parts(whole string) []string {
	p := strings.SplitN(whole, ":", 4)
	var list []string
	for i, key := range []string{"user", "role", "type", "level"} {
		if i < len(p) && p[i] != "" {
			list = append(list, key+":"+p[i])
		}
	}
	return list
}

func typeOf(whole string) string {
	if p := strings.SplitN(whole, ":", 4); len(p) > 2 {
		return p[2]
	}
	return ""
}

// over puts options in the place of others of the same key.
func over(base, options []string) []string {
	for _, o := range options {
		key, _, _ := strings.Cut(o, ":")
		base = slices.DeleteFunc(base, func(b string) bool { return strings.HasPrefix(b, key+":") })
		base = append(base, o)
	}
	return base
}
