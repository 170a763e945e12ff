package e2e

import (
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// KEP-5855.
func TestMountOptions(t *testing.T) {
	n := newNode(t)
	serveVolumes(t)
	n.pull(busybox)
	modelID := n.pull(model)
	st, err := n.rt.Status(n.ctx(), &runtimeapi.StatusRequest{})
	if err != nil || !st.Features.MountOptions {
		t.Errorf("the status says nothing of mount options: %v, %v", st.GetFeatures(), err)
	}
	pod := n.pod(n.podConfig("options"))
	dir := n.privateMount("v")
	command("cp", "/bin/busybox", dir+"/sh")
	command("mknod", "-m", "666", dir+"/null", "c", "1", "3")
	command("chmod", "4755", dir+"/sh")
	volume := func(options ...string) func(*runtimeapi.ContainerConfig) {
		return mounted(&runtimeapi.Mount{HostPath: dir, ContainerPath: "/v", MountOptions: options})
	}
	const try = "/v/sh -c 'echo runs' 2>/dev/null || echo noexec; echo x 2>/dev/null > /v/null && echo writes || echo nodev; awk '$5==\"/v\"{print $6}' /proc/self/mountinfo"
	for name, tc := range map[string]struct {
		change       func(*runtimeapi.ContainerConfig)
		script, want string
	}{
		"none":     {volume(), try, "runs\nwrites\nrw,relatime\n"},
		"noexec":   {volume("noexec"), try, "noexec\nwrites\nrw,noexec,relatime\n"},
		"nodev":    {volume("nodev"), try, "runs\nnodev\nrw,nodev,relatime\n"},
		"all":      {volume("noexec", "nodev", "nosuid", "noatime"), try, "noexec\nnodev\nrw,nosuid,nodev,noexec,noatime\n"},
		"readonly": {mounted(&runtimeapi.Mount{HostPath: dir, ContainerPath: "/v", Readonly: true, RecursiveReadOnly: true, MountOptions: []string{"rnoexec"}}), try, "noexec\nwrites\nro,noexec,relatime\n"},
		"image": {mounted(&runtimeapi.Mount{Image: &runtimeapi.ImageSpec{Image: modelID}, ContainerPath: "/v", Readonly: true, MountOptions: []string{"noexec"}}),
			"/v/run 2>/dev/null || echo noexec", "noexec\n"},
	} {
		n.sub(name, func(n *node) {
			if out, _ := n.output(pod, name, tc.script, tc.change); out != tc.want {
				n.t.Errorf("got %q, want %q", out, tc.want)
			}
		})
	}
	for _, option := range []string{"exec", "rw", "ro", "bind", "size=1", "NOEXEC", "", "rro", "idmap"} {
		_, err := n.create(pod, containerConfig("wrong", "true", volume("noexec", option)))
		wantCode(t, "option "+option, err, codes.InvalidArgument, "mounts[0].mount_options[1]")
	}
}
