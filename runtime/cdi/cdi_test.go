package cdi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const disk = `{"cdiVersion":"0.6.0","kind":"example.com/disk","containerEdits":{"env":["DISKS=yes"]},
"devices":[{"name":"one","containerEdits":{"env":["ONE=1"],"deviceNodes":[{"path":"/dev/disk-one","hostPath":"/dev/zero","permissions":"r"}],
"mounts":[{"hostPath":"/etc","containerPath":"/drivers","options":["ro","bind"]}]}},
{"name":"two","containerEdits":{"env":["TWO=2"]}}]}`

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	low, high := t.TempDir(), t.TempDir()
	d := Open([]string{low, filepath.Join(low, "not-there"), high})
	if apply, err := d.Find(nil); apply != nil || err != nil {
		t.Errorf("no names: %v", err)
	}
	_, err := d.Find([]string{"example.com/disk=one"})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "example.com/disk=one") || !strings.Contains(err.Error(), low) {
		t.Errorf("before there is a file: %v", err)
	}
	write(t, low, "disk.json", disk)
	s := &specs.Spec{Process: &specs.Process{Env: []string{"PATH=/bin"}}, Linux: &specs.Linux{}}
	apply, err := d.Find([]string{"example.com/disk=one", "example.com/disk=two"})
	if err != nil {
		t.Fatal(err)
	}
	if err := apply(s); err != nil {
		t.Fatal(err)
	}
	if want := []string{"PATH=/bin", "DISKS=yes", "ONE=1", "TWO=2"}; !slices.Equal(s.Process.Env, want) {
		t.Errorf("environment %q", s.Process.Env)
	}
	if len(s.Linux.Devices) != 1 || s.Linux.Devices[0].Path != "/dev/disk-one" || s.Linux.Devices[0].Minor != 5 {
		t.Errorf("devices %+v", s.Linux.Devices)
	}
	if r := s.Linux.Resources; r == nil || len(r.Devices) != 1 || r.Devices[0].Access != "r" || !r.Devices[0].Allow {
		t.Errorf("rules %+v", r)
	}
	if len(s.Mounts) != 1 || s.Mounts[0].Destination != "/drivers" {
		t.Errorf("mounts %+v", s.Mounts)
	}

	write(t, high, "override.yaml", "cdiVersion: 0.6.0\nkind: example.com/disk\ndevices:\n- name: one\n  containerEdits:\n    env: [ONE=high]\n")
	s = &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
	if apply, err = d.Find([]string{"example.com/disk=one"}); err == nil {
		err = apply(s)
	}
	if err != nil || !slices.Equal(s.Process.Env, []string{"ONE=high"}) {
		t.Errorf("the later directory: %q, %v", s.Process.Env, err)
	}

	write(t, low, "broken.json", "{")
	if _, err := d.Find([]string{"example.com/disk=two"}); err != nil {
		t.Errorf("beside a broken file: %v", err)
	}
	if _, err = d.Find([]string{"example.com/disk=three"}); err == nil || !strings.Contains(err.Error(), "broken.json") {
		t.Errorf("perhaps in a broken file: %v", err)
	}
	write(t, high, "bad.json", `{"cdiVersion":"0.6.0","kind":"example.com/bad","devices":[{"name":"x","containerEdits":{"deviceNodes":[{"path":"/dev/no-such-thing"}]}}]}`)
	if apply, err = d.Find([]string{"example.com/bad=x"}); err == nil {
		err = apply(s)
	}
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "/dev/no-such-thing") {
		t.Errorf("a device that the host lacks: %v", err)
	}
	if _, err := Open(nil).Find([]string{"example.com/disk=one"}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("no directories: %v", err)
	}
}
