package spec

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestNamespaces(t *testing.T) {
	show := func(s *specs.Spec) any {
		var out []string
		for _, n := range s.Linux.Namespaces {
			out = append(out, string(n.Type)+strings.TrimPrefix(n.Path, "/run/berth/pods/pod1"))
		}
		return strings.Join(out, " ")
	}
	modes := func(o *nsOptions) func(*Input) {
		return func(in *Input) { in.Config.Linux.SecurityContext.NamespaceOptions = o }
	}
	podPID := func(m runtimeapi.NamespaceMode) func(*Input) {
		return func(in *Input) { in.Pod.Config.Linux.SecurityContext.NamespaceOptions.Pid = m }
	}
	const shared = "network/ns/net ipc/ns/ipc uts/ns/uts"
	tryEach(t, show, map[string]outcome{
		"processes of its own":               {in: on(), want: "mount " + shared + " pid"},
		"on cgroup v2":                       {in: on(cgroupV2), want: "mount cgroup " + shared + " pid"},
		"privileged on cgroup v2":            {in: on(cgroupV2, privileged), want: "mount " + shared + " pid"},
		"all of the host's":                  {in: on(hostNamespaces), want: "mount"},
		"shared processes":                   {in: on(sharedPID), want: "mount " + shared + " pid/ns/pid"},
		"its own processes in a shared pod":  {in: on(sharedPID, modes(&nsOptions{Pid: modeContainer})), want: "mount " + shared + " pid"},
		"nothing said in a shared pod":       {in: on(sharedPID, modes(nil)), want: "mount " + shared + " pid/ns/pid"},
		"nothing said in a host pod":         {in: on(hostNamespaces, modes(nil)), want: "mount"},
		"host processes, the pod's network":  {in: on(podPID(modeNode), modes(&nsOptions{Pid: modeNode})), want: "mount " + shared},
		"host processes in a pod without":    {in: on(modes(&nsOptions{Pid: modeNode})), kind: errdefs.IsInvalidArgument, want: "options.pid: NODE"},
		"shared processes in a pod without":  {in: on(modes(&nsOptions{})), kind: errdefs.IsInvalidArgument, want: "options.pid: POD"},
		"host network in a pod without":      {in: on(modes(&nsOptions{Network: modeNode, Pid: modeContainer})), kind: errdefs.IsInvalidArgument, want: "options.network: NODE"},
		"host IPC in a pod without":          {in: on(modes(&nsOptions{Ipc: modeNode, Pid: modeContainer})), kind: errdefs.IsInvalidArgument, want: "options.ipc: NODE"},
		"network of its own":                 {in: on(modes(&nsOptions{Network: modeContainer})), kind: errdefs.IsInvalidArgument, want: "options.network"},
		"IPC of a target":                    {in: on(modes(&nsOptions{Ipc: modeTarget})), kind: errdefs.IsInvalidArgument, want: "options.ipc"},
		"a target that is not named":         {in: on(modes(&nsOptions{Pid: modeTarget})), kind: errdefs.IsInvalidArgument, want: "target_id"},
		"a target that nobody asked for":     {in: on(modes(&nsOptions{Pid: modeContainer, TargetId: "c"})), kind: errdefs.IsInvalidArgument, want: "target_id"},
		"a target that is gone":              {in: on(modes(&nsOptions{Pid: modeTarget, TargetId: "c"})), kind: errdefs.IsInvalidArgument, want: `"c"`},
		"a mode that does not exist":         {in: on(modes(&nsOptions{Pid: 9})), kind: errdefs.IsInvalidArgument, want: "options.pid"},
		"a user namespace without mappings":  {in: on(modes(&nsOptions{UsernsOptions: &runtimeapi.UserNamespace{}})), kind: errdefs.IsInvalidArgument, want: "userns_options.uids"},
		"the host's user namespace":          {in: on(modes(&nsOptions{Pid: modeContainer, UsernsOptions: &runtimeapi.UserNamespace{Mode: modeNode}})), want: "mount " + shared + " pid"},
		"a user namespace of a target":       {in: on(modes(&nsOptions{UsernsOptions: &runtimeapi.UserNamespace{Mode: modeTarget}})), kind: errdefs.IsInvalidArgument, want: "userns_options.mode"},
		"mappings for the host's user ns":    {in: on(modes(&nsOptions{UsernsOptions: &runtimeapi.UserNamespace{Mode: modeNode, Uids: []*runtimeapi.IDMapping{{}}}})), kind: errdefs.IsInvalidArgument, want: "userns_options"},
		"privileged in a pod that is not so": {in: on(secure(func(s *security) { s.Privileged = true })), kind: errdefs.IsInvalidArgument, want: "not created as privileged"},
	})
}
