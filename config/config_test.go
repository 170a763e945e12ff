package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// write makes files below a new directory and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDefaultFileIsTheDefault(t *testing.T) {
	got := &Config{}
	if err := got.decode("default.toml", DefaultTOML()); err != nil {
		t.Fatal(err)
	}
	want := Default()
	got.origin, got.files = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("default.toml gives\n%+v\nDefault() is\n%+v", got, want)
	}
	if err := want.Validate(); err != nil {
		t.Errorf("the default is not valid: %v", err)
	}
}

func TestDefaultFileMentionsEveryKey(t *testing.T) {
	var keys map[string]any
	if err := toml.Unmarshal(DefaultTOML(), &keys); err != nil {
		t.Fatal(err)
	}
	var walk func(prefix string, typ reflect.Type, table map[string]any)
	walk = func(prefix string, typ reflect.Type, table map[string]any) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if !f.IsExported() {
				continue
			}
			key := f.Tag.Get("toml")
			if key == "" {
				t.Errorf("field %s%s has no toml tag", prefix, f.Name)
				continue
			}
			v, ok := table[key]
			if !ok {
				t.Errorf("default.toml does not mention %s%s", prefix, key)
			}
			switch sub, _ := v.(map[string]any); {
			case f.Type.Kind() == reflect.Struct && sub != nil:
				walk(prefix+key+".", f.Type, sub)
			case f.Type.Kind() == reflect.Map && f.Type.Elem() == reflect.TypeFor[Runtime]():
				for name, one := range sub {
					walk(prefix+key+"."+name+".", f.Type.Elem(), one.(map[string]any))
				}
			}
		}
	}
	walk("", reflect.TypeFor[Config](), keys)
}

func TestLaterWins(t *testing.T) {
	dir := write(t, map[string]string{
		"config.toml": `
root = "/a/root"
state = "/a/state"
[image]
max_concurrent_layers = 2
pinned = ["one", "two"]
[container.rlimits]
core = "0"
`,
		"config.d/10-first.toml":  "root = \"/b/root\"\n[image]\nmax_concurrent_layers = 3\npinned = [\"three\"]\n",
		"config.d/20-second.toml": "[image]\nmax_concurrent_layers = 4\n[runtimes.other]\ntype = \"embedded\"\n",
		"config.d/readme.txt":     "not TOML at all",
		"config.d/.hidden.toml":   "not TOML either",
	})
	level := "debug"
	c, err := Load(filepath.Join(dir, "config.toml"), Overrides{
		LogLevel:   &level,
		CNIBinDirs: []string{"/x", "/y"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Root, want.State, want.Listen = "/b/root", "/a/state", "/a/state/berth.sock"
	want.Image.MaxConcurrentLayers = 4
	want.Image.Pinned = []string{"three"}
	want.Container.Rlimits["core"] = Rlimit{}
	want.Runtimes["other"] = Runtime{Type: "embedded"}
	want.Log.Level = "debug"
	want.CNI.BinDirs = []string{"/x", "/y"}
	wantFiles := []string{
		filepath.Join(dir, "config.toml"),
		filepath.Join(dir, "config.d/10-first.toml"),
		filepath.Join(dir, "config.d/20-second.toml"),
	}
	if !reflect.DeepEqual(c.Files(), wantFiles) {
		t.Errorf("read %q, want %q", c.Files(), wantFiles)
	}
	c.origin, c.files = nil, nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c, want)
	}
}

func TestFlagPathsAreRelativeToTheCaller(t *testing.T) {
	dir := write(t, map[string]string{"config.toml": "", "certs.d/x": ""})
	t.Chdir(dir)
	state, listen, certs := "st", "unix://st/x.sock", "certs.d"
	c, err := Load("config.toml", Overrides{State: &state, Listen: &listen, RegistryConfigDir: &certs})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct{ got, want string }{
		{c.State, dir + "/st"},
		{c.Listen, dir + "/st/x.sock"},
		{c.Image.RegistryConfigDir, dir + "/certs.d"},
	} {
		if p.got != p.want {
			t.Errorf("got %q, want %q", p.got, p.want)
		}
	}
}

func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	_, err := Load(path, Overrides{})
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that was asked for and is missing gives %v", err)
	}
	if _, err := os.Stat(DefaultPath); err == nil {
		t.Skipf("%s exists on this host", DefaultPath)
	}
	if _, err := Load("", Overrides{}); err != nil {
		t.Errorf("the default file need not exist, got %v", err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	tests := []struct {
		situation string
		toml      string
		want      []string // each in the error text
	}{
		{"unknown key", "\nrooot = \"/x\"", []string{"config.toml:2: rooot: unknown key"}},
		{"unknown key in a table", "[image]\nmax_layers = 2", []string{"config.toml:2: image.max_layers: unknown key"}},
		{"unknown table", "[images]\nx = 2", []string{"config.toml:1: images", "unknown key"}},
		{"two unknown keys", "a = 1\nb = 2", []string{"config.toml:1: a:", "config.toml:2: b:"}},
		{"not TOML", "root = /x", []string{"config.toml:1: "}},
		{"a key set twice", "root = \"/x\"\nroot = \"/y\"", []string{"config.toml:2:"}},
		{"wrong type", "root = 5", []string{"config.toml:1: root: "}},
		{"a duration without unit", "[image]\npull_progress_timeout = 5", []string{"config.toml: image.pull_progress_timeout: ", "5m"}},
		{"a duration that is none", "[image]\npull_progress_timeout = \"soon\"", []string{"config.toml:2: image.pull_progress_timeout: ", "soon"}},
		{"a size that is none", "[grpc]\nmax_send_message_size = \"16KB\"", []string{"config.toml:2: grpc.max_send_message_size: ", "16KB"}},
		{"a limit that is none", "[container.rlimits]\nnofile = \"many\"", []string{"config.toml:2: container.rlimits.nofile: ", "many"}},
		{"relative root", "root = \"x\"", []string{"config.toml: root: ", "absolute"}},
		{"state in root", "root = \"/r\"\nstate = \"/r/s\"", []string{"config.toml: state: ", "within each other"}},
		{"state path too long", "state = \"/" + strings.Repeat("x", 100) + "\"", []string{"config.toml: state: too long"}},
		{"listen path too long", "listen = \"/" + strings.Repeat("x", 107) + "\"", []string{"config.toml: listen: "}},
		{"unknown driver", "cgroup_driver = \"x\"", []string{"config.toml: cgroup_driver: "}},
		{"slice for cgroupfs", "cgroup_driver = \"cgroupfs\"\ndefault_cgroup_parent = \"/berth.slice\"", []string{"default_cgroup_parent: ", "systemd"}},
		{"path for systemd", "cgroup_driver = \"systemd\"\ndefault_cgroup_parent = \"/berth\"", []string{"default_cgroup_parent: ", "slice"}},
		{"root cgroup as parent", "default_cgroup_parent = \"/\"", []string{"default_cgroup_parent: "}},
		{"log level", "[log]\nlevel = \"loud\"", []string{"config.toml: log.level: ", "loud"}},
		{"log format", "[log]\nformat = \"xml\"", []string{"log.format: "}},
		{"no layers at once", "[image]\nmax_concurrent_layers = 0", []string{"image.max_concurrent_layers: "}},
		{"message size of nothing", "[grpc]\nmax_send_message_size = 0", []string{"grpc.max_send_message_size: "}},
		{"pinned everything", "[image]\npinned = [\"*\"]", []string{"image.pinned: "}},
		{"colon in a plugin directory", "[cni]\nbin_dirs = [\"/a:/b\"]", []string{"cni.bin_dirs: "}},
		{"bridge name too long", "[cni]\nbuiltin_bridge = \"a-very-long-bridge\"", []string{"cni.builtin_bridge: "}},
		{"subnet with host bits", "[cni]\nbuiltin_subnets = [\"10.1.2.3/16\"]", []string{"cni.builtin_subnets: ", "10.1.0.0/16"}},
		{"two subnets of one family", "[cni]\nbuiltin_subnets = [\"10.1.0.0/16\", \"10.2.0.0/16\"]", []string{"one address family"}},
		{"tiny subnet", "[cni]\nbuiltin_subnets = [\"10.1.0.0/31\"]", []string{"no room"}},
		{"no subnets", "[cni]\nbuiltin_subnets = []", []string{"cni.builtin_subnets: must not be empty"}},
		{"unknown rlimit", "[container.rlimits]\nRLIMIT_NOFILE = \"5\"", []string{"container.rlimits.RLIMIT_NOFILE: unknown resource"}},
		{"soft above hard", "[container.rlimits]\nnofile = \"5:4\"", []string{"container.rlimits.nofile: "}},
		{"relative directory of devices", "[container]\ncdi_spec_dirs = [\"/etc/cdi\", \"cdi\"]", []string{"container.cdi_spec_dirs: ", "cdi"}},
		{"kill timeout", "[container]\nkill_timeout = \"0s\"", []string{"container.kill_timeout: "}},
		{"a name as streaming address", "[streaming]\naddress = \"localhost\"", []string{"streaming.address: ", "IP address"}},
		{"an interface in the streaming address", "[streaming]\naddress = \"fe80::1%eth0\"", []string{"streaming.address: "}},
		{"streaming port", "[streaming]\nport = 65536", []string{"streaming.port: "}},
		{"certificate without key", "[streaming]\ntls = true\ntls_cert_file = \"/c\"", []string{"streaming.tls_cert_file: ", "together"}},
		{"key without certificate", "[streaming]\ntls = true\ntls_key_file = \"/k\"", []string{"streaming.tls_cert_file: ", "together"}},
		{"certificate without TLS", "[streaming]\ntls_cert_file = \"/c\"\ntls_key_file = \"/k\"", []string{"streaming.tls_cert_file: ", "would not be used"}},
		{"relative certificate", "[streaming]\ntls = true\ntls_cert_file = \"c\"\ntls_key_file = \"/k\"", []string{"streaming.tls_cert_file: ", "absolute"}},
		{"idle timeout", "[streaming]\nidle_timeout = \"-1s\"", []string{"streaming.idle_timeout: "}},
		{"relative NRI socket", "[nri]\nsocket_path = \"nri.sock\"", []string{"nri.socket_path: ", "absolute"}},
		{"NRI socket too long", "[nri]\nsocket_path = \"/" + strings.Repeat("x", 107) + "\"", []string{"nri.socket_path: ", "108"}},
		{"no NRI plugins", "[nri]\nplugin_path = \"\"", []string{"nri.plugin_path: "}},
		{"NRI registration timeout", "[nri]\nplugin_registration_timeout = \"0s\"", []string{"nri.plugin_registration_timeout: "}},
		{"NRI request timeout", "[nri]\nplugin_request_timeout = \"1us\"", []string{"nri.plugin_request_timeout: ", "millisecond"}},
		{"NRI validator without NRI", "[nri]\nenable = false\n[nri.default_validator]\nenable = true", []string{"nri.default_validator.enable: "}},
		{"NRI validator that is off", "[nri.default_validator]\nreject_sysctl_adjustment = true", []string{"nri.default_validator: ", "enable"}},
		{"NRI plugin without a name", "[nri.default_validator]\nenable = true\nrequired_plugins = [\"\"]", []string{"nri.default_validator.required_plugins: "}},
		{"creation timeout", "[streaming]\ncreation_timeout = \"0s\"", []string{"streaming.creation_timeout: "}},
		{"runtime type", "[runtimes.runc]\ntype = \"shim\"", []string{"config.toml: runtimes.runc.type: ", "embedded", "oci"}},
		{"oci runtime without program", "[runtimes.runc]\ntype = \"oci\"", []string{"config.toml: runtimes.runc.path: must not be empty"}},
		{"oci runtime by its name", "[runtimes.runc]\ntype = \"oci\"\npath = \"runc\"", []string{"runtimes.runc.path: ", "absolute"}},
		{"program of the embedded runtime", "[runtimes.x]\ntype = \"embedded\"\npath = \"/bin/runc\"\nroot = \"/x\"", []string{"runtimes.x.path: ", "runtimes.x.root: "}},
		{"one root for two", "[runtimes.a]\ntype = \"oci\"\npath = \"/a\"\nroot = \"/r\"\n[runtimes.b]\ntype = \"oci\"\npath = \"/b\"\nroot = \"/r/\"", []string{"runtimes.b.root: ", "handler a"}},
		{"annotation pattern", "[runtimes.berth]\npod_annotations = [\"a[\"]\ncontainer_annotations = [\"\"]", []string{"runtimes.berth.pod_annotations: ", "runtimes.berth.container_annotations: "}},
		{"default runtime", "default_runtime = \"kata\"", []string{"default_runtime: ", "kata", "berth"}},
		{"network of a handler", "[runtimes.berth]\ncni_conf_dir = \"net.d\"", []string{"runtimes.berth.cni_conf_dir: "}},
		{"runtime without type", "[runtimes.x]", []string{"runtimes.x.type: must be set"}},
		{"runtime name", "[runtimes.\"A b\"]\ntype = \"embedded\"", []string{"no handler name"}},
		{"three at once", "root = \"x\"\nlisten = \"y\"\n[log]\nlevel = \"z\"", []string{"root: ", "listen: ", "log.level: "}},
		{"too large", "#" + strings.Repeat("x", maxFileSize), []string{"config.toml: larger than"}},
	}
	for _, tt := range tests {
		t.Run(tt.situation, func(t *testing.T) {
			path := filepath.Join(write(t, map[string]string{"config.toml": tt.toml}), "config.toml")
			c, err := Load(path, Overrides{})
			if err == nil {
				t.Fatalf("accepted: %+v", c)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q:\n%v", want, err)
				}
			}
		})
	}
}

func TestAFlagIsNamedAsTheSource(t *testing.T) {
	path := filepath.Join(write(t, map[string]string{"config.toml": ""}), "config.toml")
	level := "loud"
	_, err := Load(path, Overrides{LogLevel: &level})
	if err == nil || !strings.Contains(err.Error(), "--log-level: log.level: ") {
		t.Errorf("got %v", err)
	}
}

func TestADropInIsNamedAsTheSource(t *testing.T) {
	dir := write(t, map[string]string{"config.toml": "", "config.d/a.toml": "[log]\nformat = \"xml\""})
	_, err := Load(filepath.Join(dir, "config.toml"), Overrides{})
	if err == nil || !strings.Contains(err.Error(), "config.d/a.toml: log.format: ") {
		t.Errorf("got %v", err)
	}
}

func TestValues(t *testing.T) {
	var got struct {
		D    Duration
		S, B Size
		R, U Rlimit
	}
	text := "D = \"1m30s\"\nS = \"4MiB\"\nB = 512\nR = \"7\"\nU = \"1:unlimited\""
	if err := toml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.D.Duration != 90*time.Second || got.S != 4<<20 || got.B != 512 ||
		got.R != (Rlimit{7, 7}) || got.U != (Rlimit{1, Unlimited}) {
		t.Errorf("got %+v", got)
	}
}

func TestHelpersLieBesideTheExecutable(t *testing.T) {
	dir := write(t, map[string]string{"mon": "x"})
	c := Default()
	c.Helpers.Monitor = filepath.Join(dir, "mon")
	if _, err := c.MonitorPath(); err == nil {
		t.Error("a file that is not executable was accepted")
	}
	if err := os.Chmod(c.Helpers.Monitor, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := c.MonitorPath(); err != nil || got != c.Helpers.Monitor {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := c.InitPath(); err == nil || !strings.Contains(err.Error(), "berth-init") {
		t.Errorf("a missing program gives %v", err)
	}
}

// FuzzDecode holds that no file makes the parser panic, and that whatever
// passes is valid with everything completed.
func FuzzDecode(f *testing.F) {
	f.Add(DefaultTOML())
	f.Add([]byte("root = 5\n[[image]]\n"))
	f.Add([]byte("[image]\npull_progress_timeout = \"-1ns\"\npinned = [1]"))
	f.Add([]byte("[runtimes]\nx = {type = \"embedded\"}\n[container.rlimits]\nnofile = \"1:2:3\""))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Default()
		if c.decode("fuzz.toml", data) != nil {
			return
		}
		c.complete()
		if c.Validate() == nil && (c.Listen == "" || len(c.Runtimes) == 0) {
			t.Errorf("valid and incomplete: %+v", c)
		}
	})
}

// A daemon on a state directory of its own leaves the node's socket alone.
func TestNRISocket(t *testing.T) {
	for name, tc := range map[string]struct {
		state, socket string
		want          string
		chosen        bool
	}{
		"the node's":     {"/run/berth", "", "/var/run/nri/nri.sock", false},
		"of another":     {"/run/other", "", "/run/other/nri.sock", false},
		"chosen":         {"/run/berth", "/run/x.sock", "/run/x.sock", true},
		"chosen by both": {"/run/other", "/run/x.sock", "/run/x.sock", true},
	} {
		c := Default()
		c.State, c.NRI.SocketPath = tc.state, tc.socket
		if got, chosen := c.NRISocket(); got != tc.want || chosen != tc.chosen {
			t.Errorf("%s: %s, %v", name, got, chosen)
		}
	}
}
