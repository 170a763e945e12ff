package pod

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/linux/namespace"
	"github.com/berth-cri/berth/runtime/selinux"
	"github.com/berth-cri/berth/runtime/spec"
	"github.com/berth-cri/berth/runtime/stats"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// recordVersion is the version of pod.json; a reader refuses a higher one.
const recordVersion = 1

// Record is pod.json. A value that was handed out is never changed.
type Record struct {
	Version   int                          `json:"version"`
	ID        string                       `json:"id"`
	Name      string                       `json:"name"`
	State     State                        `json:"state"`
	CreatedAt int64                        `json:"createdAt"` // nanoseconds since the epoch
	Handler   string                       `json:"runtimeHandler"`
	Config    *runtimeapi.PodSandboxConfig `json:"config"`
	Hostname  string                       `json:"hostname"`
	IPs       []string                     `json:"ips,omitempty"`       // in the order of the CNI result
	Interface string                       `json:"interface,omitempty"` // that has them, in the pod
	Reaper    *Reaper                      `json:"reaper,omitempty"`
	Resources *Resources                   `json:"resources,omitempty"` // of the last update
	Labels    selinux.Labels               `json:"selinux,omitzero"`
	// Released: everything but the record has been given back. Until then a
	// stop is to be repeated.
	Released bool `json:"released,omitempty"`
}

// Pod is a sandbox in memory.
type Pod struct {
	dir  string
	step atomic.Pointer[string] // what an operation under way waits for

	mu    sync.Mutex // serialises changes of rec and of its file
	rec   atomic.Pointer[Record]
	pidfd *os.File // guarded by mu: of the reaper
	ended bool     // guarded by mu: its end has been told

	changed func(runtimeapi.ContainerEventType) // tells whoever listens; set before anybody has the pod

	meter stats.Meter // of the cgroup that the kubelet made for the pod
	calls calls       // to its ports
}

// Record returns the pod as it is now.
func (p *Pod) Record() *Record { return p.rec.Load() }

// Dir is the pod's directory.
func (p *Pod) Dir() string { return p.dir }

// File is the path of one of the pod's files (hosts, hostname, resolv.conf, shm).
func (p *Pod) File(name string) string { return filepath.Join(p.dir, name) }

func (p *Pod) namespaces() string { return filepath.Join(p.dir, "ns") }

// Namespace is the path by which the pod's namespace of a kind is joined; empty
// when the pod uses the node's.
func (p *Pod) Namespace(k namespace.Kind) string {
	o := p.Record().Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	mode := runtimeapi.NamespaceMode_POD
	switch k {
	case namespace.Net, namespace.UTS: // a pod on the node's network has the node's name
		mode = o.GetNetwork()
	case namespace.IPC:
		mode = o.GetIpc()
	case namespace.PID:
		mode = o.GetPid()
	case namespace.User:
		if p.Mapping() == nil {
			return ""
		}
	}
	if mode != runtimeapi.NamespaceMode_POD {
		return ""
	}
	return namespace.Path(p.namespaces(), k)
}

// Namespaces are the paths of all namespaces that the pod has to itself.
func (p *Pod) Namespaces() map[namespace.Kind]string {
	all := map[namespace.Kind]string{}
	for _, k := range kinds {
		if path := p.Namespace(k); path != "" {
			all[k] = path
		}
	}
	return all
}

// kinds of namespaces that a pod may have to itself.
var kinds = []namespace.Kind{namespace.User, namespace.Net, namespace.IPC, namespace.UTS, namespace.PID}

// Mapping are the ids of the pod's user namespace; nil when it uses the node's.
func (p *Pod) Mapping() *namespace.Mapping {
	return spec.UserMapping(p.Record().Config.GetLinux().GetSecurityContext().GetNamespaceOptions())
}

// change applies f to a copy of the record, writes the copy, and only then
// lets others see it.
func (p *Pod) change(f func(*Record) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := *p.rec.Load()
	if err := f(&r); err != nil {
		return err
	}
	if err := atomicfile.WriteJSON(p.File(recordFile), &r); err != nil {
		return fmt.Errorf("write pod record: %w", err)
	}
	old := p.rec.Swap(&r)
	p.tell(old.State, r.State)
	return nil
}

// note is change without the file: for a pod that is being created, whose record
// is written with the last step and means nothing to a later daemon before it.
func (p *Pod) note(f func(*Record)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := *p.rec.Load()
	f(&r)
	p.rec.Store(&r)
}

// move is change for one event.
func (p *Pod) move(e Event, more ...func(*Record)) error {
	return p.change(func(r *Record) (err error) {
		if r.State, err = r.State.Next(e); err != nil {
			return err
		}
		for _, f := range more {
			f(r)
		}
		return nil
	})
}

// at notes the step that an operation is in, for the error of a caller who
// stops waiting for it.
func (p *Pod) at(step string) { p.step.Store(&step) }

const recordFile = "pod.json"

// load reads the record of a pod directory.
func load(dir string) (*Pod, error) {
	var r Record
	if err := atomicfile.ReadJSON(filepath.Join(dir, recordFile), &r); err != nil {
		return nil, err
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("pod record version %d, want %d", r.Version, recordVersion)
	}
	if r.ID != filepath.Base(dir) || r.Config.GetMetadata() == nil || next[r.State] == nil {
		return nil, fmt.Errorf("pod record of %q in state %q does not belong in %s", r.ID, r.State, dir)
	}
	p := &Pod{dir: dir}
	p.rec.Store(&r)
	return p, nil
}

// Name is what makes a sandbox unique among retries of the kubelet: the same
// pod in the same attempt.
func Name(m *runtimeapi.PodSandboxMetadata) string {
	return strings.Join([]string{m.GetName(), m.GetNamespace(), m.GetUid(), fmt.Sprint(m.GetAttempt())}, "_")
}

func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return h
}
