package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/fault"
)

func replaceOnce(t testing.TB, text, old, new string) string {
	t.Helper()
	if strings.Count(text, old) != 1 {
		t.Fatalf("%q is not once in %s", old, text)
	}
	return strings.Replace(text, old, new, 1)
}

// withNetwork waits for the watch to see a configuration.
func withNetwork(t testing.TB, m *Manager, name, text string) {
	t.Helper()
	m.writeConf(t, name, text)
	m.reload(m.using.Load())
	soon(t, "the network is ready", func() bool { return m.Status(context.Background()) == nil })
}

func TestPluginIsToldAboutThePod(t *testing.T) {
	m := open(t, nil)
	notes := m.script(t, "dummy", addResult)
	withNetwork(t, m, "10.conflist", conflist("1.0.0", "test", "dummy"))
	p := pod(t, "x")
	p.PortMappings = []PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "TCP", HostIP: "127.0.0.1"}, {ContainerPort: 9}}
	p.DNS = DNS{Servers: []string{"10.0.0.53"}, Searches: []string{"a.example"}, Options: []string{"ndots:5"}}
	p.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "1Gi"}
	p.CgroupParent = "/kubepods/x"
	res, err := m.Setup(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(res.IPs); got != "[10.9.8.7 fd09::7]" || !strings.Contains(string(res.Raw), "10.9.8.7/24") {
		t.Errorf("result %s, %s", got, res.Raw)
	}
	env := read(t, notes+"/ADD.env")
	for _, want := range []string{
		"CNI_CONTAINERID=x\n", "CNI_IFNAME=eth0\n", "CNI_NETNS=" + p.Netns + "\n", "CNI_PATH=" + m.using.Load().BinDirs[0] + "\n",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=name-x;K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=uid-x\n",
	} {
		if !strings.Contains(env, want) {
			t.Errorf("environment has no %q: %s", want, env)
		}
	}
	want := map[string]string{
		"portMappings":                      "[map[containerPort:80 hostIP:127.0.0.1 hostPort:8080 protocol:tcp]]",
		"dns":                               "map[options:[ndots:5] searches:[a.example] servers:[10.0.0.53]]",
		"bandwidth":                         "map[egressBurst:2.147483647e+09 egressRate:1.073741824e+09 ingressBurst:2.147483647e+09 ingressRate:1e+07]",
		"io.kubernetes.cri.pod-annotations": fmt.Sprint(p.Annotations),
		"cgroupPath":                        "/kubepods/x",
	}
	if err := m.Teardown(t.Context(), Pod{ID: "x"}); err != nil { // knows no more than the id
		t.Fatal(err)
	}
	for _, command := range []string{"ADD", "DEL"} {
		in := readJSON(t, notes+"/"+command+".in")
		got := in["runtimeConfig"].(map[string]any)
		for k, w := range want {
			if fmt.Sprint(got[k]) != w {
				t.Errorf("%s: %s is %v, want %s", command, k, got[k], w)
			}
		}
	}
	if in := readJSON(t, notes+"/DEL.in"); in["prevResult"] == nil {
		t.Errorf("DEL got no result of ADD: %v", in)
	}
	nothingLeft(t, m)
}

func TestTeardownUsesTheConfigurationOfAdd(t *testing.T) {
	m := open(t, nil)
	notes := m.script(t, "dummy", addResult)
	withNetwork(t, m, "10.conflist", conflist("1.0.0", "first", "dummy"))
	p := pod(t, "x")
	if _, err := m.Setup(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	withNetwork(t, m, "10.conflist", conflist("1.0.0", "second", "other"))
	if err := m.Teardown(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if got := readJSON(t, notes+"/DEL.in")["name"]; got != "first" {
		t.Errorf("DEL for network %v", got)
	}
}

func TestFailingPlugin(t *testing.T) {
	const failing = `test $CNI_COMMAND = $(cat "$0".fail 2>/dev/null || echo none) && { echo '{"code": 11, "msg": "no daemon", "details": "d"}'; exit 1; }`
	m := open(t, nil)
	notes := m.script(t, "dummy", failing+"\n"+addResult)
	fail := filepath.Join(m.using.Load().BinDirs[0], "dummy.fail")
	withNetwork(t, m, "10.conflist", conflist("1.0.0", "test", "dummy"))
	calls := func() string {
		defer os.Remove(notes + "/calls")
		return strings.ReplaceAll(read(t, notes+"/calls"), "\n", ",")
	}

	write(t, fail, "ADD")
	p := pod(t, "x")
	_, err := m.Setup(t.Context(), p)
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "no daemon") || !errors.As(err, new(*types.Error)) {
		t.Errorf("ADD: %v", err)
	}
	if got := calls(); got != "ADD eth0,DEL eth0," {
		t.Errorf("calls %s, want an ADD and the DEL after it", got)
	}
	nothingLeft(t, m)

	write(t, fail, "DEL")
	if _, err := m.Setup(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Teardown(t.Context(), p); !errdefs.IsUnavailable(err) {
			t.Errorf("DEL: %v", err)
		}
	}
	if got := recorded(t, m); len(got) != 1 {
		t.Errorf("recorded %v", got)
	}
	if _, err := m.Setup(t.Context(), p); !errdefs.IsAlreadyExists(err) {
		t.Errorf("Setup over what is not freed: %v", err)
	}
	write(t, fail, "none")
	if err := m.Teardown(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, m)

	// Both at once: what ADD left stays recorded.
	write(t, fail, "ADD")
	m.script(t, "dummy", `test $CNI_COMMAND = VERSION || { echo bad >&2; exit 3; }`)
	if _, err := m.Setup(t.Context(), p); err == nil || !strings.Contains(err.Error(), "bad") {
		t.Errorf("%v", err)
	}
	if got := recorded(t, m); len(got) != 1 {
		t.Errorf("recorded %v", got)
	}
	m.script(t, "dummy", "")
	if err := m.Teardown(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, m)
}

func TestCallerThatGivesUp(t *testing.T) {
	m := open(t, nil)
	notes := m.script(t, "dummy", `test $CNI_COMMAND != ADD || sleep 60`)
	withNetwork(t, m, "10.conflist", conflist("1.0.0", "test", "dummy"))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for i := 0; i < 500; i++ {
			if _, err := os.Stat(notes + "/calls"); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	start := time.Now()
	if _, err := m.Setup(ctx, pod(t, "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("the plugin's child was waited for: %s", d)
	}
	if _, err := os.Stat(notes + "/DEL.env"); err != nil {
		t.Errorf("no DEL: %v", err)
	}
	nothingLeft(t, m)
}

func TestPluginThatHangs(t *testing.T) {
	m := open(t, func(o *Options) { o.Timeout = 300 * time.Millisecond })
	m.script(t, "dummy", `test $CNI_COMMAND != ADD || sleep 60`)
	withNetwork(t, m, "10.conflist", conflist("1.0.0", "test", "dummy"))
	if _, err := m.Setup(t.Context(), pod(t, "x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestPluginThatTalksTooMuch(t *testing.T) {
	m := open(t, nil)
	m.script(t, "dummy", `test $CNI_COMMAND != ADD || head -c 10000000 /dev/zero; exit 0`)
	withNetwork(t, m, "10.conflist", conflist("1.0.0", "test", "dummy"))
	if _, err := m.Setup(t.Context(), pod(t, "x")); !errors.Is(err, errTooMuch) {
		t.Errorf("%v", err)
	}
	nothingLeft(t, m)
}

func TestBadResults(t *testing.T) {
	for name, result := range map[string]string{
		"no JSON":         `x`,
		"nothing":         ``,
		"null":            `null`,
		"no addresses":    `{"cniVersion": "1.0.0"}`,
		"other interface": `{"cniVersion": "1.0.0", "interfaces": [{"name": "net1", "sandbox": "/x"}], "ips": [{"address": "10.9.8.7/24", "interface": 0}]}`,
		"no version":      `{"cniVersion": "9.9.9", "ips": [{"address": "10.9.8.7/24"}]}`,
		"bad address":     `{"cniVersion": "1.0.0", "ips": [{"address": "x"}]}`,
		"unspecified":     `{"cniVersion": "1.0.0", "ips": [{"address": "0.0.0.0/0"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			m := open(t, nil)
			m.script(t, "dummy", `test $CNI_COMMAND != ADD || echo '`+result+`'`)
			withNetwork(t, m, "10.conflist", conflist("1.0.0", "test", "dummy"))
			if res, err := m.Setup(t.Context(), pod(t, "x")); err == nil {
				t.Errorf("got %+v", res)
			}
			nothingLeft(t, m)
		})
	}
}

func TestProgramThatIsBeingWritten(t *testing.T) {
	m := open(t, nil)
	m.script(t, "dummy", addResult)
	// A script is never "busy"; a copy of a binary is.
	program := filepath.Join(m.using.Load().BinDirs[0], "binary")
	b, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Skip(err)
	}
	f, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, func() { f.Close() })
	if _, err := m.using.Load().exec.run(t.Context(), program, nil, nil); err != nil {
		t.Errorf("%v (busy %t)", err, errors.Is(err, unix.ETXTBSY))
	}
}

func TestSeveralNetworks(t *testing.T) {
	m := open(t, func(o *Options) { o.MaxConfNum = 2 })
	notes := m.script(t, "dummy", addResult)
	m.writeConf(t, "30.conflist", conflist("1.0.0", "third", "absent"))
	m.writeConf(t, "20.conf", `{"cniVersion": "1.0.0", "name": "second", "type": "dummy"}`)
	withNetwork(t, m, "10.conflist", conflist("1.0.0", "first", "dummy"))
	p := pod(t, "x")
	if _, err := m.Setup(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := m.Teardown(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Fields(read(t, notes+"/calls")), "ADD eth0 ADD eth1 DEL eth1 DEL eth0"; strings.Join(got, " ") != want {
		t.Errorf("calls %v, want %s", got, want)
	}
	nothingLeft(t, m)
}

func TestWhatTheBuiltinCannotDoIsLeftToTheProgram(t *testing.T) {
	m := open(t, nil)
	conf := replaceOnce(t, conflist("1.0.0", "test", "portmap"), `"type": "portmap"`, `"type": "portmap", "conditionsV4": ["-d", "1.2.3.4"]`)
	m.writeConf(t, "10.conflist", conf)
	m.reload(m.using.Load())
	if _, err := m.Setup(t.Context(), pod(t, "x")); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "conditionsV4") {
		t.Errorf("without the program: %v", err)
	}
	// DEL cannot be done either: the record stays until the program comes.
	if got := recorded(t, m); len(got) != 1 {
		t.Errorf("recorded %v", got)
	}
	notes := m.script(t, "portmap", addResult)
	if err := m.Teardown(t.Context(), Pod{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Setup(t.Context(), pod(t, "y")); err != nil {
		t.Fatal(err)
	}
	if err := m.Teardown(t.Context(), Pod{ID: "y"}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(read(t, notes+"/calls")); len(got) != 6 {
		t.Errorf("calls %v", got)
	}
	nothingLeft(t, m)
}

func TestIPAMByProgram(t *testing.T) {
	noLinks(t)
	m := open(t, nil)
	notes := m.script(t, "my-ipam", `test $CNI_COMMAND != ADD || echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.79.0.5/24", "gateway": "10.79.0.1"}]}'`)
	withNetwork(t, m, "10.conflist", `{"cniVersion": "1.0.0", "name": "test", "plugins": [{"type": "bridge", "bridge": "btest1", "isGateway": true, "ipam": {"type": "my-ipam"}}]}`)
	p := pod(t, "x")
	res, err := m.Setup(t.Context(), p)
	if err != nil || fmt.Sprint(res.IPs) != "[10.79.0.5]" {
		t.Fatalf("%v, %v", res, err)
	}
	if err := m.Teardown(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(read(t, notes+"/calls")); strings.Join(got, " ") != "ADD eth0 DEL eth0" {
		t.Errorf("calls %v", got)
	}
}

func TestFaults(t *testing.T) {
	noLinks(t)
	m := open(t, builtinMode)
	p := pod(t, "x")
	for _, point := range []string{"network.setup.recorded", "network.setup.added"} {
		if err := fault.Set(point, "1*error(x)"); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Setup(t.Context(), p); !errors.Is(err, fault.ErrInjected) {
			t.Errorf("%s: %v", point, err)
		}
		nothingLeft(t, m)
	}
	if _, err := m.Setup(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := fault.Set("network.teardown.deleted", "1*error(x)"); err != nil {
		t.Fatal(err)
	}
	if err := m.Teardown(t.Context(), p); !errors.Is(err, fault.ErrInjected) {
		t.Errorf("%v", err)
	}
	if err := m.Teardown(t.Context(), p); err != nil {
		t.Errorf("again: %v", err)
	}
	nothingLeft(t, m)
}

func TestBrokenRecordIsSetAside(t *testing.T) {
	m := open(t, builtinMode)
	write(t, m.recordPath("broken"), "{")
	write(t, m.recordPath("future"), `{"version": 99}`)
	all, err := m.Recorded()
	if err == nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	if all, err := m.Recorded(); err != nil || len(all) != 0 {
		t.Errorf("reported twice: %v, %v", all, err)
	}
}

func TestBadPods(t *testing.T) {
	m := open(t, builtinMode)
	for name, change := range map[string]func(*Pod){
		"no id":                func(p *Pod) { p.ID = "" },
		"an id that is a path": func(p *Pod) { p.ID = "../x" },
		"no namespace":         func(p *Pod) { p.Netns = "" },
		"namespace gone":       func(p *Pod) { p.Netns = "/nonexistent" },
		"bandwidth":            func(p *Pod) { p.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "fast"} },
		"protocol": func(p *Pod) {
			p.PortMappings = []PortMapping{{HostPort: 1, ContainerPort: 1, Protocol: "icmp"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod(t, "x")
			change(&p)
			if _, err := m.Setup(t.Context(), p); !errdefs.IsInvalidArgument(err) && !errdefs.IsNotFound(err) {
				t.Errorf("%v", err)
			}
			nothingLeft(t, m)
		})
	}
}
