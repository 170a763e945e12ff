package builtin

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/berth-cri/berth/cni/nettest"
)

// reference finds the plugins of containernetworking/plugins, as Debian's package
// containernetworking-plugins or others install them.
func reference(t *testing.T) string {
	t.Helper()
	nettest.NeedHost(t)
	for _, dir := range []string{os.Getenv("BERTH_CNI_PLUGINS"), "/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); dir != "" && err == nil {
			return dir
		}
	}
	t.Skip("the reference plugins are not installed (BERTH_CNI_PLUGINS=DIR)")
	return ""
}

// theirs calls a reference plugin as call calls ours.
func theirs(t *testing.T, dir, command string, conf merged, id, pod string) (Result, error) {
	t.Helper()
	cmd := exec.Command(filepath.Join(dir, conf["type"].(string)))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+id, "CNI_NETNS="+pod, "CNI_IFNAME=eth0", "CNI_PATH="+dir)
	cmd.Stdin = bytes.NewReader(encodeConf(t, conf))
	out, err := cmd.Output()
	if err != nil {
		t.Logf("%s %s: %s", conf["type"], command, out)
		return nil, err
	}
	if command != Add {
		return nil, nil
	}
	res, err := create.CreateFromBytes(out)
	if err != nil {
		return nil, err
	}
	return current.NewResultFromResult(res)
}

// withoutChance is a result without what is random.
func withoutChance(t *testing.T, res Result, pod string) string {
	t.Helper()
	b, err := json.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	var out Result
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	for _, i := range out.Interfaces {
		i.Mac = ""
		if i.Sandbox == pod {
			i.Sandbox = "pod"
		} else if i.Name != "btest0" {
			i.Name = "host end"
		}
	}
	if b, err = json.Marshal(out); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheReferencePluginsAreInterchangeable(t *testing.T) {
	dir := reference(t)
	for _, kind := range []string{"bridge", "ptp"} {
		t.Run(kind, func(t *testing.T) {
			leasesA, leasesB := t.TempDir(), t.TempDir()
			noLeaks(t, leasesA, leasesB)
			netConf := func(leases string) merged {
				conf := bridgeNet(leases).with(object{"type": kind, "ipMasq": false})
				conf["ipam"].(object)["routes"] = []object{{"dst": "10.90.0.0/16", "gw": "10.77.0.1"}, {"dst": "fd90::/32", "gw": "fd77::1"}}
				return conf
			}
			// Side by side, each over its own leases: the same results and files.
			podA, podB := nettest.Pod(t), nettest.Pod(t)
			resA := mustAdd(t, netConf(leasesA), "x", podA)
			resB, err := theirs(t, dir, Add, netConf(leasesB).with(object{"bridge": "btest0"}), "x", podB)
			if kind == "ptp" && err != nil {
				t.Skipf("the reference plugin does not work here: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if a, b := withoutChance(t, resA, podA), withoutChance(t, resB, podB); a != b {
				t.Errorf("results differ:\nours   %s\ntheirs %s", a, b)
			}
			compareFiles(t, filepath.Join(leasesA, "test-net"), filepath.Join(leasesB, "test-net"))
			mustDel(t, netConf(leasesA), "x", podA)
			if _, err := theirs(t, dir, Del, netConf(leasesB), "x", podB); err != nil {
				t.Error(err)
			}

			// And over the same leases, each deleting what the other added.
			conf := netConf(leasesA)
			first, second := nettest.Pod(t), nettest.Pod(t)
			resFirst := mustAdd(t, conf, "first", first)
			resFirst.CNIVersion = "1.0.0" // the caller's to convert
			resSecond, err := theirs(t, dir, Add, conf, "second", second)
			if err != nil {
				t.Fatal(err)
			}
			a4, a6 := ips(resFirst)
			b4, b6 := ips(resSecond)
			if a4.Next() != b4 || a6.Next() != b6 {
				t.Errorf("leases %s %s and %s %s do not follow each other", a4, a6, b4, b6)
			}
			nettest.Serve(t, second, "tcp", ":8080", "second")
			if who, _, err := nettest.Ask(first, "tcp", net.JoinHostPort(b4.String(), "8080")); err != nil || who != "second" {
				t.Errorf("from a pod of ours to one of theirs: %q, %v", who, err)
			}
			if _, err := call(t, Check, conf.with(object{"prevResult": resSecond}), "second", second); err != nil {
				t.Errorf("our CHECK of theirs: %v", err)
			}
			if _, err := theirs(t, dir, Check, conf.with(object{"prevResult": resFirst}), "first", first); err != nil {
				t.Errorf("their CHECK of ours: %v", err)
			}
			if _, err := theirs(t, dir, Del, conf.with(object{"prevResult": resFirst}), "first", first); err != nil {
				t.Errorf("their DEL of ours: %v", err)
			}
			mustDel(t, conf, "first", first)
			mustDel(t, conf.with(object{"prevResult": resSecond}), "second", second)
			if l, err := net.InterfaceByName(resSecond.Interfaces[len(resSecond.Interfaces)-2].Name); err == nil && l.Flags&net.FlagUp != 0 {
				t.Errorf("after our DEL their host end %s is still up", l.Name)
			}
			if _, err := theirs(t, dir, Del, conf, "second", second); err != nil {
				t.Errorf("their DEL after ours: %v", err)
			}
			if l := leaseFiles(t, leasesA); len(l) != 0 {
				t.Errorf("leases left: %v", l)
			}
		})
	}
}

func compareFiles(t *testing.T, ours, theirs string) {
	t.Helper()
	list := func(dir string) (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	if a, b := list(ours), list(theirs); !slices.Equal(a, b) {
		t.Errorf("files %v and %v", a, b)
	}
	for _, name := range list(ours) {
		a, errA := os.ReadFile(filepath.Join(ours, name))
		b, errB := os.ReadFile(filepath.Join(theirs, name))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: ours %q %v, theirs %q %v", name, a, errA, b, errB)
		}
	}
}
