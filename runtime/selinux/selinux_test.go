package selinux

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	goselinux "github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// policy is a host whose levels are s0:c1,c2, s0:c2,c3 and so on.
type policy struct {
	off       bool
	strange   bool // it knows no containers
	next      int
	reserved  []string
	relabeled []string
	fails     error // of relabelling
}

func (p *policy) Enabled() bool { return !p.off }

func (p *policy) Make(options []string) (string, string, error) {
	at := map[string]string{"user": "system_u", "role": "system_r", "type": "container_t"}
	for _, o := range options {
		key, value, _ := strings.Cut(o, ":")
		at[key] = value
	}
	for at["level"] == "" {
		p.next++
		if level := fmt.Sprintf("s0:c%d,c%d", p.next, p.next+1); !slices.Contains(p.reserved, level) {
			at["level"] = level
		}
	}
	process := strings.Join([]string{at["user"], at["role"], at["type"], at["level"]}, ":")
	p.Reserve(process)
	return process, at["user"] + ":object_r:container_file_t:" + at["level"], nil
}

func (p *policy) Check(label string) error {
	if p.strange || typeOf(label) == "unknown_t" {
		return unix.EINVAL
	}
	return nil
}

func level(label string) string { return strings.SplitN(label, ":", 4)[3] }

func (p *policy) Reserve(label string) { p.reserved = append(p.reserved, level(label)) }

func (p *policy) Release(label string) {
	p.reserved = slices.DeleteFunc(p.reserved, func(l string) bool { return l == level(label) })
}

func (p *policy) Relabel(path, label string) error {
	p.relabeled = append(p.relabeled, path+" "+label)
	return p.fails
}

type (
	option  = runtimeapi.SELinuxOption
	context = runtimeapi.LinuxContainerSecurityContext
)

func TestPodsHaveLevelsOfTheirOwn(t *testing.T) {
	p := &policy{}
	l := with(p)
	first, err := l.Pod(nil)
	if err != nil || first.Process != "system_u:system_r:container_t:s0:c1,c2" || first.Mount != "system_u:object_r:container_file_t:s0:c1,c2" {
		t.Fatalf("got %+v, %v", first, err)
	}
	second, _ := l.Pod(&option{})
	typed, _ := l.Pod(&option{Type: "mine_t"})
	if second.Process == first.Process || typed.Process != "system_u:system_r:mine_t:s0:c3,c4" {
		t.Errorf("got %+v, %+v", second, typed)
	}
	asked, _ := l.Pod(&option{Level: "s0:c9,c10"})
	again, _ := l.Pod(&option{Level: "s0:c9,c10"})
	if asked.Process != "system_u:system_r:container_t:s0:c9,c10" || again != asked {
		t.Errorf("got %+v, %+v", asked, again)
	}
	for _, labels := range []Labels{first, second, typed, asked} {
		l.Release(labels)
	}
	if !slices.Equal(p.reserved, []string{"s0:c9,c10", "s0:c9,c10"}) {
		t.Errorf("in use after all but one pod are gone: %q", p.reserved)
	}

	// The next daemon.
	p = &policy{}
	l = with(p)
	l.Reserve(first)
	l.Reserve(Labels{})
	if third, _ := l.Pod(nil); level(third.Process) == level(first.Process) {
		t.Errorf("two pods have %s", third.Process)
	}
}

func TestLabelsOfContainers(t *testing.T) {
	const node = runtimeapi.NamespaceMode_NODE
	pod := func(o *option) *runtimeapi.LinuxSandboxSecurityContext {
		return &runtimeapi.LinuxSandboxSecurityContext{SelinuxOptions: o}
	}
	const podLevel = ":s0:c1,c2"
	for situation, tc := range map[string]struct {
		pod            *option
		sc             *context
		process, mount string // without "system_u:"
	}{
		"nothing asked":           {nil, nil, "system_r:container_t" + podLevel, podLevel},
		"empty options":           {nil, &context{SelinuxOptions: &option{}}, "system_r:container_t" + podLevel, podLevel},
		"another type":            {nil, &context{SelinuxOptions: &option{Type: "mine_t"}}, "system_r:mine_t" + podLevel, podLevel},
		"another role":            {nil, &context{SelinuxOptions: &option{Role: "r"}}, "r:container_t" + podLevel, podLevel},
		"a level":                 {nil, &context{SelinuxOptions: &option{Level: "s0:c7"}}, "system_r:container_t:s0:c7", ":s0:c7"},
		"the pod's type":          {&option{Type: "pod_t"}, nil, "system_r:pod_t" + podLevel, podLevel},
		"the pod's, and more":     {&option{Type: "pod_t", Level: "s0:c3"}, &context{SelinuxOptions: &option{Role: "r"}}, "r:pod_t:s0:c3", ":s0:c3"},
		"its own over the pod's":  {&option{Type: "pod_t"}, &context{SelinuxOptions: &option{Type: "mine_t"}}, "system_r:mine_t" + podLevel, podLevel},
		"privileged":              {nil, &context{Privileged: true}, "", podLevel},
		"privileged, with a type": {nil, &context{Privileged: true, SelinuxOptions: &option{Type: "mine_t"}}, "", podLevel},
		"the host's processes":    {nil, &context{NamespaceOptions: &runtimeapi.NamespaceOption{Pid: node}}, "", podLevel},
		"the host's memory":       {nil, &context{NamespaceOptions: &runtimeapi.NamespaceOption{Ipc: node}}, "", podLevel},
		"the host's network":      {nil, &context{NamespaceOptions: &runtimeapi.NamespaceOption{Network: node}}, "system_r:container_t" + podLevel, podLevel},
		"the host's processes, with a type": {nil, &context{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: node}, SelinuxOptions: &option{Type: "mine_t"},
		}, "system_r:mine_t" + podLevel, podLevel},
		"the host's processes, in a pod with a type": {&option{Type: "pod_t"}, &context{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: node},
		}, "system_r:pod_t" + podLevel, podLevel},
	} {
		t.Run(situation, func(t *testing.T) {
			l := with(&policy{})
			labels, err := l.Pod(tc.pod)
			if err != nil {
				t.Fatal(err)
			}
			got, err := l.Container(labels, pod(tc.pod), tc.sc)
			if err != nil {
				t.Fatal(err)
			}
			want := Labels{Mount: "system_u:object_r:container_file_t" + tc.mount}
			if tc.process != "" {
				want.Process = "system_u:" + tc.process
			}
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestUnknownLabels(t *testing.T) {
	p := &policy{}
	l := with(p)
	if _, err := l.Pod(&option{Type: "unknown_t"}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "unknown_t") || len(p.reserved) != 0 {
		t.Errorf("got %v, in use %q", err, p.reserved)
	}
	strange := &policy{strange: true}
	if _, err := with(strange).Pod(nil); !errdefs.IsFailedPrecondition(err) || len(strange.reserved) != 0 {
		t.Errorf("a policy without containers: %v, in use %q", err, strange.reserved)
	}
	pod, _ := l.Pod(nil)
	if _, err := l.Container(pod, nil, &context{SelinuxOptions: &option{Type: "unknown_t"}}); !errdefs.IsInvalidArgument(err) || !slices.Contains(p.reserved, level(pod.Process)) {
		t.Errorf("got %v, in use %q", err, p.reserved)
	}
}

func TestRelabel(t *testing.T) {
	refused := errors.New("SELinux relabeling of /usr is not allowed")
	labels := Labels{Process: "u:r:container_t:s0:c1", Mount: "u:object_r:container_file_t:s0:c1"}
	for situation, tc := range map[string]struct {
		labels Labels
		fails  error
		done   bool
		kind   func(error) bool
	}{
		"a volume":                        {labels, nil, true, nil},
		"a file system without labels":    {labels, unix.ENOTSUP, true, nil},
		"a directory of the host":         {labels, refused, true, errdefs.IsFailedPrecondition},
		"a privileged container's volume": {Labels{Mount: labels.Mount}, nil, true, nil},
		"that of one that may everything": {Labels{Process: "u:r:spc_t:s0", Mount: labels.Mount}, nil, false, nil},
		"no labels":                       {Labels{}, nil, false, nil},
	} {
		t.Run(situation, func(t *testing.T) {
			p := &policy{fails: tc.fails}
			err := with(p).Relabel("/volume", tc.labels)
			if tc.kind == nil && err != nil || tc.kind != nil && (!tc.kind(err) || !strings.Contains(err.Error(), "not allowed")) {
				t.Errorf("got %v", err)
			}
			if done := slices.Equal(p.relabeled, []string{"/volume " + labels.Mount}); done != tc.done {
				t.Errorf("relabelled: %q", p.relabeled)
			}
		})
	}
}

func TestWithoutSELinux(t *testing.T) {
	p := &policy{off: true}
	l := with(p)
	labels, err := l.Pod(&option{Type: "spc_t"})
	if labels != (Labels{}) || err != nil {
		t.Errorf("a pod: %+v, %v", labels, err)
	}
	// Also when it was there for the pod, and is switched off since.
	if labels, err = l.Container(Labels{Process: "a:b:c:s0"}, nil, &context{SelinuxOptions: &option{Type: "x"}}); labels != (Labels{}) || err != nil {
		t.Errorf("a container: %+v, %v", labels, err)
	}
	if err := l.Relabel("/usr", Labels{Mount: "a:b:c:s0"}); err != nil || p.relabeled != nil {
		t.Errorf("a volume: %v, %q", err, p.relabeled)
	}
	l.Reserve(Labels{Process: "a:b:c:s0"})
	l.Release(Labels{Process: "a:b:c:s0", Own: true})
}

// TestLibraryRefusesHostDirectories holds what Relabel relies on; the library
// says no before it touches anything.
func TestLibraryRefusesHostDirectories(t *testing.T) {
	for _, dir := range []string{"/", "/usr", "/home", "/etc", "/var/lib", "/root/"} {
		if err := refuses(dir); err == nil || !strings.Contains(err.Error(), "not allowed") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func refuses(dir string) error {
	return goselinux.Chcon(dir, "system_u:object_r:container_file_t:s0", false)
}
