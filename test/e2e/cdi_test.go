package e2e

import (
	"fmt"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// cdiNode is a node with a directory for the descriptions of devices.
func cdiNode(n *node) {
	n.config = fmt.Sprintf("[container]\ncdi_spec_dirs = [%q, %q]", n.path("cdi"), n.path("cdi-run"))
}

func withCDI(names ...string) func(*runtimeapi.ContainerConfig) {
	return func(c *runtimeapi.ContainerConfig) {
		for _, name := range names {
			c.CDIDevices = append(c.CDIDevices, &runtimeapi.CDIDevice{Name: name})
		}
	}
}

func TestCDIDevices(t *testing.T) {
	n := usernsNode(t, cdiNode)
	pod := n.pod(n.podConfig("cdi"))
	_, err := n.create(pod, containerConfig("early", "true", withCDI("example.com/disk=one")))
	wantCode(t, "before there is a description", err, codes.FailedPrecondition, "example.com/disk=one", n.path("cdi"))

	drivers := filepath.Dir(n.write("drivers/lib.so", "driver\n"))
	n.write("cdi/disk.json", fmt.Sprintf(`{"cdiVersion":"0.6.0","kind":"example.com/disk","containerEdits":{"env":["DISKS=yes"]},"devices":[
{"name":"one","containerEdits":{"env":["ONE=1"],"deviceNodes":[{"path":"/dev/deep/one","hostPath":"/dev/fuse"}],
"mounts":[{"hostPath":%q,"containerPath":"/drivers","options":["ro","bind"]}]}},
{"name":"two","containerEdits":{"env":["TWO=2"]}}]}`, drivers))
	const look = "echo $DISKS $ONE $TWO; cat /drivers/lib.so; touch /drivers/x 2>/dev/null || echo no; (exec 3<>/dev/deep/one) && echo opened"
	annotated := func(c *runtimeapi.ContainerConfig) {
		c.Annotations = map[string]string{"cdi.k8s.io/plugin": "example.com/disk=one,example.com/disk=two"}
	}
	n.inPod(pod, map[string]printed{
		"one":             {withCDI("example.com/disk=one"), look, "yes 1\ndriver\nno\nopened\n"},
		"two":             {withCDI("example.com/disk=one", "example.com/disk=two"), look, "yes 1 2\ndriver\nno\nopened\n"},
		"by annotation":   {annotated, look, "yes 1 2\ndriver\nno\nopened\n"},
		"without a node":  {withCDI("example.com/disk=two"), "echo $TWO; ls /dev/deep 2>/dev/null || echo none", "2\nnone\n"},
		"the host's path": {withCDI("example.com/disk=one"), "ls /dev/fuse 2>/dev/null || echo no; stat -c %t:%T /dev/deep/one", "no\na:e5\n"},
	})
	n.sub("in a user namespace", func(n *node) {
		if standardRuntime != "berth" {
			n.t.Skip("runc binds devices there, from the host's path of the same name")
		}
		pod := n.pod(n.podConfig("cdi-userns", podInUserns))
		out, st := n.output(pod, "mapped", look+"; stat -c %u /drivers/lib.so /dev/deep/one", inUserns, withCDI("example.com/disk=one"))
		if want := "yes 1\ndriver\nno\nopened\n0\n0\n"; out != want {
			n.t.Errorf("got %q, want %q; %s", out, want, st.Message)
		}
	})
	// Taken anew for each container.
	n.write("cdi-run/disk.yaml", "cdiVersion: 0.6.0\nkind: example.com/disk\ndevices:\n- name: one\n  containerEdits:\n    env: [ONE=changed]\n")
	n.inPod(pod, map[string]printed{
		"changed": {withCDI("example.com/disk=one"), "echo $ONE; ls /dev/deep 2>/dev/null || echo none", "changed\nnone\n"},
	})
	for name, tc := range map[string]struct {
		device string
		code   codes.Code
		word   string
	}{
		"no such device":      {"example.com/disk=three", codes.FailedPrecondition, "example.com/disk=three"},
		"no name of a device": {"disk", codes.InvalidArgument, "CDI_devices[0]"},
	} {
		_, err := n.create(pod, containerConfig("wrong", "true", withCDI(tc.device)))
		wantCode(t, name, err, tc.code, tc.word)
	}
}

// A directory stands for the devices in it and below.
func TestDeviceDirectories(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	dir := n.privateMount("devices") + "/set"
	command("mkdir", "-p", dir+"/deep")
	command("mknod", "-m", "666", dir+"/zero", "c", "1", "5")
	command("mknod", "-m", "666", dir+"/deep/fuse", "c", "10", "229")
	n.write("devices/set/readme", "no device\n")
	pod := n.pod(n.podConfig("directories"))
	devices := func(container, permissions string) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) {
			c.Devices = []*runtimeapi.Device{{HostPath: dir, ContainerPath: container, Permissions: permissions}}
		}
	}
	n.inPod(pod, map[string]printed{
		"in another place": {devices("/dev/set", "rw"), "find /dev/set -type c | sort; head -c 2 /dev/set/zero | wc -c; (exec 3<>/dev/set/deep/fuse) && echo opened", "/dev/set/deep/fuse\n/dev/set/zero\n2\nopened\n"},
		"only to be read":  {devices("/dev/set", "r"), "(exec 3</dev/set/deep/fuse) && echo read; (exec 3>/dev/set/deep/fuse) 2>/dev/null || echo no", "read\nno\n"},
	})
}
