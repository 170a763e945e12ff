package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// hookProgram tells which hook it is, what it was given and where it runs.
const hookProgram = `#!/bin/sh
read -r state
echo "$1 $(readlink /proc/self/ns/mnt) $state $HOOKS" >>%[1]s/hooks
test -e %[1]s/fails-$1 && echo sorry >&2 && exit 3
test -e %[1]s/hangs-$1 && sleep 1000
exit 0
`

// TestHooks lets a device bring hooks of every kind.
func TestHooks(t *testing.T) {
	n := newNode(t, func(n *node) { n.config += fmt.Sprintf("\n[container]\ncdi_spec_dirs = [%q]\n", n.path("cdi")) })
	n.pull(busybox)
	program := n.write("hook", fmt.Sprintf(hookProgram, n.dir))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, kind := range []string{"prestart", "createRuntime", "createContainer", "poststart", "poststop"} {
		list = append(list, fmt.Sprintf(`{"hookName":%q,"path":%q,"args":["hook",%q],"env":["HOOKS=%s","PATH=/usr/bin:/bin"],"timeout":2}`, kind, program, kind, kind))
	}
	list = append(list, `{"hookName":"startContainer","path":"/bin/sh","args":["sh","-c","cat >/seen; id -u >>/seen"],"env":["PATH=/bin"]}`)
	n.write("cdi/hooks.json", fmt.Sprintf(`{"cdiVersion":"0.6.0","kind":"example.com/hooked","devices":[{"name":"all","containerEdits":{"hooks":[%s]}}]}`, strings.Join(list, ",")))
	hooked := func(c *runtimeapi.ContainerConfig) {
		c.CDIDevices = []*runtimeapi.CDIDevice{{Name: "example.com/hooked=all"}}
	}
	ran := func() (kinds, namespaces []string) {
		b, _ := os.ReadFile(n.path("hooks"))
		for line := range strings.Lines(string(b)) {
			f := strings.SplitN(strings.TrimSpace(line), " ", 3)
			kinds, namespaces = append(kinds, f[0]), append(namespaces, f[1])
			end := strings.LastIndexByte(f[2], ' ')
			var state struct {
				ID, Status, Bundle, OciVersion string
				Pid                            int
			}
			if err := json.Unmarshal([]byte(f[2][:end]), &state); err != nil || state.ID == "" || state.Bundle == "" || state.OciVersion == "" {
				t.Errorf("%s is told %q: %v", f[0], f[2], err)
			}
			want := map[string]string{"prestart": "creating", "createRuntime": "creating", "createContainer": "creating", "poststart": "running", "poststop": "stopped"}[f[0]]
			if state.Status != want && standardRuntime == "berth" || (state.Pid > 0) == (f[0] == "poststop") {
				t.Errorf("%s is told of state %q, process %d", f[0], state.Status, state.Pid)
			}
			if f[2][end+1:] != f[0] {
				t.Errorf("environment of %s: %q", f[0], f[2][end+1:])
			}
		}
		return kinds, namespaces
	}
	pod := n.pod(n.podConfig("hooks", hostNetwork))
	id := n.run(pod, containerConfig("all", "sleep 1000; :", hooked))
	starting := []string{"prestart", "createRuntime", "createContainer", "poststart"}
	kinds, namespaces := ran()
	if !slices.Equal(kinds, starting) {
		t.Errorf("at the start ran %q, want %q", kinds, starting)
	}
	if len(namespaces) == 4 && (namespaces[2] == namespaces[3] || standardRuntime == "berth" && namespaces[0] != namespaces[3]) {
		t.Errorf("mount namespaces: %q", namespaces)
	}
	if out := n.must(id, "cat /seen"); !strings.Contains(out, id) || !strings.HasSuffix(out, "0\n") {
		t.Errorf("startContainer left %q", out)
	}
	n.restart()
	n.stop(id, 0)
	n.remove(id)
	eventually(t, 5*time.Second, "poststop", func() error {
		if kinds, _ := ran(); !slices.Equal(kinds, append(starting, "poststop")) {
			return fmt.Errorf("ran %q", kinds)
		}
		return nil
	})

	// One that fails before the program runs is the end; later it is only told.
	for _, kind := range []string{"prestart", "createRuntime", "createContainer", "poststart", "poststop"} {
		for _, how := range []string{"fails", "hangs"} {
			if how == "hangs" && standardRuntime != "berth" {
				continue // runc kills the hook and waits for its children
			}
			os.Remove(n.path("hooks"))
			mark := n.write(how+"-"+kind, "")
			id, err := n.create(pod, containerConfig(strings.ToLower(how+"-"+kind), "sleep 1000; :", hooked))
			if err == nil {
				_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
			}
			switch {
			case !strings.HasPrefix(kind, "post"):
				words := []string{"hook"}
				if standardRuntime == "berth" {
					words = []string{kind + " hook " + program, map[string]string{"fails": "sorry", "hangs": "more than 2s"}[how]}
				}
				wantCode(t, how+" "+kind, err, codes.Internal, words...)
				if st := n.status(id); st.Reason != "StartError" {
					t.Errorf("%s %s: %v", how, kind, st)
				}
			case standardRuntime != "berth" && kind == "poststart": // runc ends the container
			case err != nil:
				t.Errorf("%s %s: %v", how, kind, err)
			default:
				if out, _ := n.exec(id, "echo runs"); out != "runs\n" {
					t.Errorf("%s %s: it does not run", how, kind)
				}
			}
			n.remove(id)
			os.Remove(mark)
		}
	}
}
