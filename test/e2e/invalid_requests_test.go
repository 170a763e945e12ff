package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What is wrong in the requests of all other RPCs: the code, and the words that
// the error must have. Ids of every kind are in TestIDs, configurations in
// TestInvalidPods and TestInvalidContainers.
func TestInvalidRequests(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("pod", hostNetwork))
	running := n.run(pod, containerConfig("running", "sleep 1000; :"))
	exited := n.run(pod, containerConfig("exited", "true"))
	n.wait(exited)
	created, err := n.create(pod, containerConfig("created", "true"))
	if err != nil {
		t.Fatal(err)
	}
	stopped := n.pod(n.podConfig("stopped", hostNetwork))
	n.stopPod(stopped)
	type linux = runtimeapi.LinuxContainerResources
	update := func(id string, l *linux) error {
		_, err := n.rt.UpdateContainerResources(n.ctx(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: l})
		return err
	}
	updatePod := func(id string, overhead, sum *linux) error {
		_, err := n.rt.UpdatePodSandboxResources(n.ctx(), &runtimeapi.UpdatePodSandboxResourcesRequest{PodSandboxId: id, Overhead: overhead, Resources: sum})
		return err
	}
	execSync := func(id string, timeout int64, cmd ...string) error {
		_, err := n.rt.ExecSync(n.ctx(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: cmd, Timeout: timeout})
		return err
	}
	forward := func(id string, ports ...int32) error {
		_, err := n.rt.PortForward(n.ctx(), &runtimeapi.PortForwardRequest{PodSandboxId: id, Port: ports})
		return err
	}
	exec := func(r *runtimeapi.ExecRequest) error { _, err := n.rt.Exec(n.ctx(), r); return err }
	attach := func(r *runtimeapi.AttachRequest) error { _, err := n.rt.Attach(n.ctx(), r); return err }
	image := func(name string) *runtimeapi.ImageSpec { return &runtimeapi.ImageSpec{Image: name} }
	missing := strings.Repeat("f", 64)
	before := n.everything()
	for name, tc := range map[string]struct {
		err   error
		code  codes.Code
		words string
	}{
		"stop with a negative timeout": {second(n.rt.StopContainer(n.ctx(), &runtimeapi.StopContainerRequest{ContainerId: running, Timeout: -1})), codes.InvalidArgument, "timeout -1"},
		"start of one that runs":       {second(n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: running})), codes.FailedPrecondition, "running"},
		"start of one that exited":     {second(n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: exited})), codes.FailedPrecondition, "exited"},
		"create in a stopped pod":      {second(n.create(stopped, containerConfig("late", "true"))), codes.FailedPrecondition, "notready"},
		"create without a pod":         {second(n.create("", containerConfig("late", "true"))), codes.NotFound, ""},
		"Windows container": {second(n.create(pod, containerConfig("w", "true", func(c *runtimeapi.ContainerConfig) {
			c.Windows = &runtimeapi.WindowsContainerConfig{}
		}))), codes.Unimplemented, "windows"},

		"command without words":        {execSync(running, 0), codes.InvalidArgument, "cmd"},
		"command without a program":    {execSync(running, 0, "", "x"), codes.InvalidArgument, "cmd"},
		"command with a NUL":           {execSync(running, 0, "echo", "a\x00b"), codes.InvalidArgument, "cmd[1] NUL"},
		"word of a command too long":   {execSync(running, 0, "echo", strings.Repeat("x", 1<<17)), codes.InvalidArgument, "cmd[1] 131072 bytes"},
		"negative timeout":             {execSync(running, -1, "true"), codes.InvalidArgument, "timeout -1"},
		"endless timeout":              {execSync(running, 1<<62, "true"), codes.InvalidArgument, "timeout"},
		"command in one that exited":   {execSync(exited, 0, "true"), codes.FailedPrecondition, "exited"},
		"command in one that is new":   {execSync(created, 0, "true"), codes.FailedPrecondition, "created"},
		"program that is not there":    {execSync(running, 5, "no-such-program"), codes.FailedPrecondition, "no-such-program"},
		"exec without streams":         {exec(&runtimeapi.ExecRequest{ContainerId: running, Cmd: []string{"true"}}), codes.InvalidArgument, "stdin stdout stderr"},
		"exec without words":           {exec(&runtimeapi.ExecRequest{ContainerId: running, Stdout: true}), codes.InvalidArgument, "cmd"},
		"exec with a NUL":              {exec(&runtimeapi.ExecRequest{ContainerId: running, Stdout: true, Cmd: []string{"a\x00"}}), codes.InvalidArgument, "cmd[0] NUL"},
		"exec, terminal and stderr":    {exec(&runtimeapi.ExecRequest{ContainerId: running, Cmd: []string{"true"}, Tty: true, Stderr: true}), codes.InvalidArgument, "tty stderr"},
		"exec in one that exited":      {exec(&runtimeapi.ExecRequest{ContainerId: exited, Cmd: []string{"true"}, Stdout: true}), codes.FailedPrecondition, "exited"},
		"exec in none":                 {exec(&runtimeapi.ExecRequest{ContainerId: missing, Cmd: []string{"true"}, Stdout: true}), codes.NotFound, ""},
		"attach without streams":       {attach(&runtimeapi.AttachRequest{ContainerId: running}), codes.InvalidArgument, "stdin stdout stderr"},
		"attach, terminal and stderr":  {attach(&runtimeapi.AttachRequest{ContainerId: running, Tty: true, Stderr: true}), codes.InvalidArgument, "tty stderr"},
		"attach to one that is new":    {attach(&runtimeapi.AttachRequest{ContainerId: created, Stdout: true}), codes.FailedPrecondition, "created"},
		"attach to none":               {attach(&runtimeapi.AttachRequest{ContainerId: missing, Stdout: true}), codes.NotFound, ""},
		"port too high":                {forward(pod, 80, 65536), codes.InvalidArgument, "port 65536"},
		"negative port":                {forward(pod, -1), codes.InvalidArgument, "port -1"},
		"ports of a stopped pod":       {forward(stopped, 80), codes.FailedPrecondition, "notready"},
		"ports of none":                {forward(missing, 80), codes.NotFound, ""},
		"log of one that exited":       {second(n.rt.ReopenContainerLog(n.ctx(), &runtimeapi.ReopenContainerLogRequest{ContainerId: exited})), codes.FailedPrecondition, "exited"},
		"update of nothing":            {update(running, nil), codes.InvalidArgument, "linux"},
		"update of none":               {update(missing, &linux{CpuShares: 2}), codes.NotFound, ""},
		"update of one that exited":    {update(exited, &linux{CpuShares: 2}), codes.FailedPrecondition, "exited"},
		"update to a negative limit":   {update(running, &linux{MemoryLimitInBytes: -7}), codes.InvalidArgument, "linux.memory_limit_in_bytes -7"},
		"update to a negative weight":  {update(created, &linux{CpuShares: -1}), codes.InvalidArgument, "linux.cpu_shares -1"},
		"update to unknown processors": {update(running, &linux{CpusetCpus: "4000"}), codes.InvalidArgument, "cpuset"},
		"update of Windows": {second(n.rt.UpdateContainerResources(n.ctx(), &runtimeapi.UpdateContainerResourcesRequest{
			ContainerId: running, Linux: &linux{CpuShares: 2}, Windows: &runtimeapi.WindowsContainerResources{}})), codes.InvalidArgument, "windows"},
		"update with annotations": {second(n.rt.UpdateContainerResources(n.ctx(), &runtimeapi.UpdateContainerResourcesRequest{
			ContainerId: running, Linux: &linux{CpuShares: 2}, Annotations: map[string]string{"a": "b"}})), codes.InvalidArgument, "annotations"},
		"update of a pod that is none":     {updatePod(missing, nil, &linux{CpuShares: 2}), codes.NotFound, ""},
		"update of a stopped pod":          {updatePod(stopped, nil, &linux{CpuShares: 2}), codes.FailedPrecondition, "notready"},
		"update to a negative overhead":    {updatePod(pod, &linux{CpuShares: -1}, nil), codes.InvalidArgument, "overhead.cpu_shares -1"},
		"update to a sum out of bounds":    {updatePod(pod, nil, &linux{CpuPeriod: 5}), codes.InvalidArgument, "resources.cpu_period 5"},
		"stats of none":                    {second(n.rt.ContainerStats(n.ctx(), &runtimeapi.ContainerStatsRequest{ContainerId: missing})), codes.NotFound, ""},
		"stats without an id":              {second(n.rt.ContainerStats(n.ctx(), &runtimeapi.ContainerStatsRequest{})), codes.NotFound, ""},
		"stats of no pod":                  {second(n.rt.PodSandboxStats(n.ctx(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: missing})), codes.NotFound, ""},
		"list of pods of no state":         {second(n.rt.ListPodSandbox(n.ctx(), &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: 7}}})), codes.InvalidArgument, "filter.state 7"},
		"list of containers of no state":   {second(n.rt.ListContainers(n.ctx(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: -1}}})), codes.InvalidArgument, "filter.state -1"},
		"pod CIDR that is none":            {second(n.rt.UpdateRuntimeConfig(n.ctx(), &runtimeapi.UpdateRuntimeConfigRequest{RuntimeConfig: &runtimeapi.RuntimeConfig{NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: "10.0.0.0/33"}}})), codes.InvalidArgument, "pod_cidr 10.0.0.0/33"},
		"status of no image":               {second(n.images.ImageStatus(n.ctx(), &runtimeapi.ImageStatusRequest{})), codes.InvalidArgument, "image"},
		"status of an image without name":  {second(n.images.ImageStatus(n.ctx(), &runtimeapi.ImageStatusRequest{Image: image("")})), codes.InvalidArgument, "image"},
		"removal of no image":              {second(n.images.RemoveImage(n.ctx(), &runtimeapi.RemoveImageRequest{})), codes.InvalidArgument, "image.image"},
		"pull of no image":                 {second(n.images.PullImage(n.ctx(), &runtimeapi.PullImageRequest{})), codes.InvalidArgument, "image.image"},
		"pull of a name that is none":      {second(n.images.PullImage(n.ctx(), &runtimeapi.PullImageRequest{Image: image("A B")})), codes.InvalidArgument, "A B"},
		"pull of an id":                    {second(n.images.PullImage(n.ctx(), &runtimeapi.PullImageRequest{Image: image("sha256:" + strings.Repeat("0", 64))})), codes.InvalidArgument, "sha256:0"},
		"pull with credentials for no one": {second(n.images.PullImage(n.ctx(), &runtimeapi.PullImageRequest{Image: image(busybox), Auth: &runtimeapi.AuthConfig{Username: "u", ServerAddress: "http://"}})), codes.InvalidArgument, "server_address"},
		"pull with endless credentials":    {second(n.images.PullImage(n.ctx(), &runtimeapi.PullImageRequest{Image: image(busybox), Auth: &runtimeapi.AuthConfig{IdentityToken: strings.Repeat("t", 1<<20)}})), codes.InvalidArgument, "identity_token"},
	} {
		wantCode(t, name, tc.err, tc.code, strings.Fields(tc.words)...)
	}
	if after := n.everything(); !slices.Equal(before, after) {
		t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// second is the error of a call.
func second[T any](_ T, err error) error { return err }

// everything is what the node lists, and what its directories hold.
func (n *node) everything() []string {
	n.t.Helper()
	var all []string
	pods, err := n.rt.ListPodSandbox(n.ctx(), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, p := range pods.Items {
		all = append(all, "pod "+p.Id+" "+p.State.String())
	}
	list, err := n.rt.ListContainers(n.ctx(), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, c := range list.Containers {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(n.status(c.Id))
		all = append(all, fmt.Sprintf("container %s %s %x %v", c.Id, c.State, b, err))
	}
	for _, i := range n.imageList() {
		all = append(all, fmt.Sprint("image ", i.Id, i.RepoTags, i.RepoDigests))
	}
	for _, dir := range []string{"state/pods", "state/containers", "root/containers", "root/layers/sha256", "root/images", "root/tmp"} {
		all = append(all, fmt.Sprint(dir, entries(n.path(dir))))
	}
	return append(append(all, n.mounts()...), cgroupsBelow(n.cgroup)...)
}

// What is larger than anybody needs is either taken or refused with a reason.
func TestAbsurdSizes(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("pod", hostNetwork))
	long := strings.Repeat("x", 4000)
	many := func(count int) []*runtimeapi.Mount {
		var all []*runtimeapi.Mount
		for i := range count {
			all = append(all, &runtimeapi.Mount{HostPath: n.path("data"), ContainerPath: fmt.Sprintf("/mnt/%d", i)})
		}
		return all
	}
	type config = runtimeapi.ContainerConfig
	for name, tc := range map[string]struct {
		change func(*config)
		code   codes.Code
		words  []string
	}{
		"a name too long":           {func(c *config) { c.Metadata.Name = long }, codes.InvalidArgument, []string{"metadata.name", "4000 bytes"}},
		"annotations of megabytes":  {func(c *config) { c.Annotations = map[string]string{"a": strings.Repeat("y", 6<<20)} }, codes.OK, nil},
		"a message over the limit":  {func(c *config) { c.Annotations = map[string]string{"a": strings.Repeat("y", 17<<20)} }, codes.ResourceExhausted, []string{"larger than max"}},
		"annotations that grow":     {func(c *config) { c.Annotations = map[string]string{"a": strings.Repeat("<", 5<<20)} }, codes.InvalidArgument, []string{"record"}},
		"thousands of labels":       {func(c *config) { c.Labels = numbered(10000) }, codes.OK, nil},
		"a thousand mounts":         {func(c *config) { c.Mounts = many(1000) }, codes.OK, nil},
		"a path longer than any":    {func(c *config) { c.Mounts = []*runtimeapi.Mount{{HostPath: "/" + long + long, ContainerPath: "/x"}} }, codes.InvalidArgument, []string{"mounts[0].host_path"}},
		"a part of a path too long": {func(c *config) { c.Mounts = []*runtimeapi.Mount{{HostPath: n.path(long), ContainerPath: "/x"}} }, codes.FailedPrecondition, []string{"mounts[0].host_path", "too long"}},
		"a destination too long": {func(c *config) {
			c.Mounts = []*runtimeapi.Mount{{HostPath: n.path("data"), ContainerPath: "/" + long + long}}
		}, codes.InvalidArgument, []string{"mounts[0].container_path"}},
		"a path with a NUL":            {func(c *config) { c.Mounts = []*runtimeapi.Mount{{HostPath: "/a\x00b", ContainerPath: "/x"}} }, codes.InvalidArgument, []string{"mounts[0].host_path", "NUL"}},
		"a directory too long":         {func(c *config) { c.WorkingDir = "/" + long + long }, codes.InvalidArgument, []string{"working_dir"}},
		"more words than execve takes": {func(c *config) { c.Args = slices.Repeat([]string{strings.Repeat("z", 100<<10)}, 80) }, codes.InvalidArgument, []string{"args"}},
		"very many groups": {func(c *config) {
			for i := range int64(70000) {
				c.Linux.SecurityContext.SupplementalGroups = append(c.Linux.SecurityContext.SupplementalGroups, i)
			}
		}, codes.InvalidArgument, []string{"supplemental_groups", "65536"}},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := n.create(pod, containerConfig(strings.ReplaceAll(name, " ", "-"), "true", tc.change))
			wantCode(t, name, err, tc.code, tc.words...)
			if err != nil {
				return
			}
			if _, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
				t.Fatal(err)
			}
			if st := n.wait(id); st.ExitCode != 0 {
				t.Errorf("%d %s %s", st.ExitCode, st.Reason, st.Message)
			}
			if _, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
				t.Error(err)
			}
		})
	}
	if left := append(entries(n.path("state/containers")), entries(n.path("root/containers"))...); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := os.Stat(n.path("data")); err != nil {
		t.Error(err)
	}
}

func numbered(count int) map[string]string {
	all := map[string]string{}
	for i := range count {
		all[fmt.Sprint("label", i)] = fmt.Sprint(i)
	}
	return all
}
