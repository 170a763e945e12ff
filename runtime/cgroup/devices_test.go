package cgroup

import (
	"bufio"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestDevicesAreDenied lets a process in the cgroup try to open devices.
func TestDevicesAreDenied(t *testing.T) {
	null := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(3)), Access: "rwm"}
	deny := specs.LinuxDeviceCgroup{Access: "rwm"}
	for _, tt := range []struct {
		name  string
		rules []specs.LinuxDeviceCgroup
		want  string // of /dev/null and /dev/zero
	}{
		{"no rules", nil, "yes yes"},
		{"a list of allowed ones", []specs.LinuxDeviceCgroup{deny, null}, "yes no"},
		{"nothing", []specs.LinuxDeviceCgroup{deny}, "no no"},
		{"everything, as for a privileged container", []specs.LinuxDeviceCgroup{deny, null, {Allow: true, Type: "a", Access: "rwm"}}, "yes yes"},
		{"everything but one", []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}, {Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(3)), Access: "rwm"}}, "no yes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			every(t, func(t *testing.T, m *Manager) {
				c := create(t, m, "one", &specs.LinuxResources{Devices: tt.rules})
				if got := tryDevices(t, c); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
			})
		})
	}
}

func tryDevices(t *testing.T, c *Cgroup) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `read x
		for d in null zero; do if (: < /dev/$d) 2>&-; then echo yes; else echo no; fi; done`)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	join(t, c, cmd.Process.Pid)
	io.WriteString(in, "go\n")
	in.Close()
	var got []string
	for s := bufio.NewScanner(out); s.Scan(); {
		got = append(got, s.Text())
	}
	cmd.Wait()
	return strings.Join(got, " ")
}

func TestDeviceRule(t *testing.T) {
	for _, d := range []specs.LinuxDeviceCgroup{
		{Allow: true, Type: "x", Access: "r"},
		{Allow: true, Type: "p", Access: "r"},
		{Allow: true, Type: "c", Access: "rx"},
		{Allow: true, Type: "c"},
	} {
		if r, err := deviceRule(d); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %+v %v", d, r, err)
		}
	}
	r, err := deviceRule(specs.LinuxDeviceCgroup{Allow: true, Type: "u", Major: ptr(int64(5)), Access: "rw"})
	if err != nil || r.CgroupString() != "c 5:* rw" {
		t.Errorf("%+v %v", r, err)
	}
}
