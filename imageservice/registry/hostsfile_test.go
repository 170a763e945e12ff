package registry

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestHostsFile(t *testing.T) {
	type want struct{ url, caps string }
	for name, c := range map[string]struct {
		file string
		want []want
	}{
		"an empty file means the registry itself": {``, []want{{"", "rp"}}},
		"a server":                         {`server = "https://registry-1.docker.io"`, []want{{"https://registry-1.docker.io/v2", "rp"}}},
		"a server without scheme is https": {`server = "r.example:5000"`, []want{{"https://r.example:5000/v2", "rp"}}},
		"mirrors stay in the order of the file, the server is last": {`
			server = "https://s.example"
			[host."https://zz.example"]
			[host."https://aa.example"]
			capabilities = ["pull"]
			[host."https://mm.example"]
			capabilities = ["resolve", "push"]
			`, []want{{"https://zz.example/v2", "rp"}, {"https://aa.example/v2", "p"}, {"https://mm.example/v2", "r"}, {"https://s.example/v2", "rp"}}},
		"the order holds for dotted keys and inline tables": {`
			host."https://b.example".skip_verify = true
			host."https://a.example" = { capabilities = ["pull", "resolve"] }
			`, []want{{"https://b.example/v2", "rp"}, {"https://a.example/v2", "rp"}, {"", "rp"}}},
		"the order holds for an inline table of hosts": {`host = { "https://b.example" = {}, "https://a.example" = {} }`,
			[]want{{"https://b.example/v2", "rp"}, {"https://a.example/v2", "rp"}, {"", "rp"}}},
		"a path goes before v2":       {`[host."http://m.example/proxy/"]`, []want{{"http://m.example/proxy/v2", "rp"}, {"", "rp"}}},
		"a path that ends in v2":      {`[host."http://m.example/proxy/v2"]`, []want{{"http://m.example/proxy/v2", "rp"}, {"", "rp"}}},
		"a path that is the whole":    {"[host.\"http://m.example/api/docker\"]\noverride_path = true", []want{{"http://m.example/api/docker", "rp"}, {"", "rp"}}},
		"an override without a path":  {"[host.\"http://m.example\"]\noverride_path = true", []want{{"http://m.example", "rp"}, {"", "rp"}}},
		"a header table":              {"[host.\"http://m.example\".header]\nx-a = [\"1\", \"2\"]\nx-b = \"3\"", []want{{"http://m.example/v2", "rp"}, {"", "rp"}}},
		"the server without anything": {`capabilities = []`, []want{{"", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseHostsFile("f", "/d", []byte(c.file))
			if err != nil {
				t.Fatal(err)
			}
			var list []want
			for _, e := range got {
				w := want{}
				if e.url != nil {
					w.url = e.url.String()
				}
				if e.resolve {
					w.caps += "r"
				}
				if e.pull {
					w.caps += "p"
				}
				list = append(list, w)
			}
			if !slices.Equal(list, c.want) {
				t.Errorf("got  %v\nwant %v", list, c.want)
			}
		})
	}
}

func TestHostsFileFields(t *testing.T) {
	got, err := parseHostsFile("f", "/certs", []byte(`
		[host."https://m.example"]
		ca = ["a.crt", "/abs/b.crt"]
		client = [["c.cert", "c.key"], "both.pem"]
		skip_verify = true
		dial_timeout = "3s"
		[host."https://m.example".header]
		x-list = ["1", "2"]
		x-one = "3"
		[host."https://n.example"]
		ca = "one.crt"
		client = "both.pem"
	`))
	if err != nil {
		t.Fatal(err)
	}
	m, n := got[0], got[1]
	if !slices.Equal(m.ca, []string{"/certs/a.crt", "/abs/b.crt"}) || !slices.Equal(n.ca, []string{"/certs/one.crt"}) {
		t.Errorf("ca: %v %v", m.ca, n.ca)
	}
	if !slices.Equal(m.clientPairs, [][2]string{{"/certs/c.cert", "/certs/c.key"}, {"/certs/both.pem", ""}}) ||
		!slices.Equal(n.clientPairs, [][2]string{{"/certs/both.pem", ""}}) {
		t.Errorf("client: %v %v", m.clientPairs, n.clientPairs)
	}
	if !m.skipVerify || m.dialTimeout != 3*time.Second || n.skipVerify {
		t.Errorf("%+v", m)
	}
	if fmt.Sprint(m.header) != "map[X-List:[1 2] X-One:[3]]" {
		t.Errorf("header: %v", m.header)
	}
}

func TestHostsFileErrorsNameFileKeyAndReason(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"no TOML":                  {`server = `, "f: line 1: "},
		"an unknown key":           {`sever = "x"`, "f: sever: line 1: no such key"},
		"an unknown key of a host": {"\n[host.\"https://m\"]\nskip-verify = true", `skip-verify: line 3: no such key`},
		"a wrong type":             {`skip_verify = "yes"`, "f: skip_verify: line 1"},
		"a wrong capability":       {`capabilities = ["pul"]`, `f: capabilities: "pul" is none of`},
		"a wrong scheme":           {`server = "ftp://x"`, "f: server: "},
		"no host":                  {`server = "https://"`, "no host"},
		"a password in the URL":    {`[host."https://a:b@c"]`, "use header"},
		"a query":                  {`server = "https://a?b"`, "query"},
		"an empty URL":             {`[host.""]`, "an empty URL"},
		"a ca that is a number":    {`ca = 3`, "f: ca: 3 is neither"},
		"a ca in a list of lists":  {`ca = [["a"]]`, "f: ca: "},
		"a client of three":        {`client = [["a", "b", "c"]]`, "f: client: [a b c] is not a pair"},
		"a client that is a table": {`client = {a = 1}`, "f: client: "},
		"a bad duration":           {`dial_timeout = "5"`, "f: dial_timeout: "},
		"a negative duration":      {`dial_timeout = "-5s"`, "not above zero"},
		"a header with a newline":  {"[header]\nx = \"a\\nb\"", "f: header: x: not a valid HTTP header"},
		"a header's name":          {"[header]\n\"a b\" = \"x\"", "not a valid HTTP header"},
		"the host header":          {"[header]\nhost = \"x\"", "not a valid HTTP header"},
		"a header that is a date":  {"[header]\nx = 2001-01-01", "f: header: x: "},
		"a huge file":              {"#" + strings.Repeat("x", maxHostsFile), "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseHostsFile("f", "/d", []byte(c.file))
			if err == nil || !strings.Contains(err.Error(), c.want) || !errdefs.IsFailedPrecondition(err) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestHostsDirectoryOfARegistry(t *testing.T) {
	for name, c := range map[string]struct {
		registry string
		dirs     []string
		want     string // the directory whose file counts
	}{
		"by its name":                     {"r.example", []string{"r.example", "_default"}, "r.example"},
		"with the port, underscores":      {"r.example:5000", []string{"r.example_5000_", "r.example:5000"}, "r.example_5000_"},
		"with the port, a colon":          {"r.example:5000", []string{"r.example:5000", "r.example"}, "r.example:5000"},
		"an address of IPv6 with port":    {"[::1]:5000", []string{"[::1]_5000_"}, "[::1]_5000_"},
		"another registry's is not taken": {"r.example:5000", []string{"r.example"}, ""},
		"the default one":                 {"r.example", []string{"_default"}, "_default"},
		"none":                            {"r.example", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, d := range c.dirs {
				write(t, filepath.Join(root, d, "hosts.toml"), fmt.Sprintf("[host.\"http://m/%s\"]", strings.NewReplacer("[", "", "]", "", ":", "").Replace(d)))
			}
			h := hosts{dir: root}
			got, err := h.lookup(c.registry)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.NewReplacer("[", "", "]", "", ":", "").Replace(c.want)
			if c.want == "" && len(got) != 1 || c.want != "" && got[0].url.Path != "/"+want+"/v2" {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestDefaultEndpoint(t *testing.T) {
	for registry, want := range map[string]string{
		"docker.io":          "https://registry-1.docker.io/v2",
		"registry.k8s.io":    "https://registry.k8s.io/v2",
		"10.0.0.1:5000":      "https://10.0.0.1:5000/v2",
		"localhost:5000":     "http://localhost:5000/v2",
		"127.0.0.1:5000":     "http://127.0.0.1:5000/v2",
		"127.9.9.9:80":       "http://127.9.9.9:80/v2",
		"[::1]:5000":         "http://[::1]:5000/v2",
		"localhost":          "https://localhost/v2",
		"localhost:443":      "https://localhost:443/v2",
		"localhost.evil:500": "https://localhost.evil:500/v2",
	} {
		if got := defaultURL(registry).String(); got != want {
			t.Errorf("%s: %s, want %s", registry, got, want)
		}
	}
}

func TestHostsFileIsReadAgainWhenItChanged(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "r.example", "hosts.toml")
	h := hosts{dir: root}
	count := func() int {
		t.Helper()
		e, err := h.lookup("r.example")
		if err != nil {
			t.Fatal(err)
		}
		return len(e)
	}
	if n := count(); n != 1 {
		t.Errorf("without a directory: %d", n)
	}
	write(t, file, `[host."http://a"]`)
	if n := count(); n != 2 {
		t.Errorf("a new directory: %d", n)
	}
	first, _ := h.lookup("r.example")
	again, _ := h.lookup("r.example")
	if first[0] != again[0] {
		t.Error("parsed again without need")
	}
	write(t, file, "[host.\"http://a\"]\n[host.\"http://b\"]")
	if n := count(); n != 3 {
		t.Errorf("a changed file: %d", n)
	}
	write(t, file, "broken")
	if _, err := h.lookup("r.example"); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a broken file: %v", err)
	}
	if err := os.RemoveAll(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 1 {
		t.Errorf("a removed directory: %d", n)
	}
}

func TestMissingCertificatesAreNamed(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "r.example", "hosts.toml")
	for _, key := range []string{"ca", "client"} {
		write(t, file, key+` = "none.pem"`)
		h := hosts{dir: root}
		_, err := h.lookup("r.example")
		if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "none.pem") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func FuzzHostsFile(f *testing.F) {
	f.Add([]byte("server = \"https://a\"\n[host.\"http://b\"]\ncapabilities = [\"pull\"]\nca = [\"x\"]\nclient = [[\"a\",\"b\"]]\n[host.\"http://b\".header]\nx = [\"y\"]"))
	f.Add([]byte(`host = { "a" = { skip_verify = true, dial_timeout = "1s" } }`))
	f.Add([]byte(`[[host."a"]]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseHostsFile("f", "/d", data)
		if err != nil {
			if !errdefs.IsFailedPrecondition(err) {
				t.Fatalf("an error without kind: %v", err)
			}
			return
		}
		if len(got) == 0 {
			t.Fatal("no endpoint")
		}
		for _, c := range got {
			if _, err := newEndpoint("docker.io", endpointConfig{url: c.url, header: c.header}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
