package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestEveryKeySaysWhenItChanges holds the rule of Config for new keys.
func TestEveryKeySaysWhenItChanges(t *testing.T) {
	all := Default().Settings()
	for _, s := range all {
		if s.Reload != Now && s.Reload != Restart {
			t.Errorf("%s: the reload tag is %q: say %q or %q", s.Key, s.Reload, Now, Restart)
		}
	}
	if len(all) < 30 {
		t.Errorf("only %d keys", len(all))
	}
	// A table of the user's own names speaks for all below it.
	var walk func(typ reflect.Type, inside bool)
	walk = func(typ reflect.Type, inside bool) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			tag := f.Tag.Get("reload")
			if f.IsExported() && inside && tag != "" {
				t.Errorf("%s.%s: its map has the tag", typ, f.Name)
			}
			if f.IsExported() && f.Type.Kind() == reflect.Map && isTable(f.Type.Elem()) {
				walk(f.Type.Elem(), true)
			} else if f.IsExported() && isTable(f.Type) {
				walk(f.Type, inside)
			}
		}
	}
	walk(reflect.TypeFor[Config](), false)
}

func TestReloaded(t *testing.T) {
	dir := write(t, map[string]string{
		"config.toml": "root = \"/a\"\n[image]\npinned = [\"one\"]\n",
		"new.toml": `
root = "/b"
[log]
level = "debug"
format = "json"
[image]
pinned = []
pull_progress_timeout = "1m"
[container.rlimits]
core = "0:unlimited"
[runtimes.other]
type = "embedded"
[grpc]
max_send_message_size = "17MiB"
`,
	})
	old, err := Load(filepath.Join(dir, "config.toml"), Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	next, err := Load(filepath.Join(dir, "new.toml"), Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	merged, err := old.Reloaded(next)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, got []Change, want []Change) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v\nwant\n%+v", what, got, want)
		}
	}
	check("changed", Diff(old.Settings(), merged.Settings()), []Change{
		{"log.level", `"info"`, `"debug"`, Now},
		{"image.pull_progress_timeout", `"5m0s"`, `"1m0s"`, Now},
		{"image.pinned", `["one"]`, `[]`, Now},
		{"container.rlimits.core", "", `"0:unlimited"`, Now},
		{"runtimes.other.type", "", `"embedded"`, Now},
		{"runtimes.other.path", "", `""`, Now},
		{"runtimes.other.root", "", `""`, Now},
		{"runtimes.other.pod_annotations", "", `[]`, Now},
		{"runtimes.other.container_annotations", "", `[]`, Now},
		{"runtimes.other.cni_conf_dir", "", `""`, Now},
		{"runtimes.other.privileged_without_host_devices", "", `false`, Now},
	})
	check("waiting", Diff(merged.Settings(), next.Settings()), []Change{
		{"root", `"/a"`, `"/b"`, Restart},
		{"log.format", `"text"`, `"json"`, Restart},
		{"grpc.max_send_message_size", `"16MiB"`, `"17MiB"`, Restart},
	})
	check("back", Diff(merged.Settings(), old.Settings())[3:5], []Change{
		{"container.rlimits.core", `"0:unlimited"`, "", Now},
		{"runtimes.other.type", `"embedded"`, "", Now},
	})
	if old.Root != "/a" || len(old.Image.Pinned) != 1 || len(old.Runtimes) != 1 {
		t.Errorf("the old one was changed: %+v", old)
	}
}

func TestAbsoluteFlags(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	root, listen := "r", "unix://x.sock"
	o, err := Overrides{Root: &root, Listen: &listen, CNIBinDirs: []string{"a", "/b"}}.Absolute()
	if err != nil || *o.Root != dir+"/r" || *o.Listen != dir+"/x.sock" || o.CNIBinDirs[0] != dir+"/a" || o.CNIBinDirs[1] != "/b" || o.State != nil {
		t.Errorf("%+v, %v", o, err)
	}
	if root != "r" {
		t.Error("the flag itself was changed")
	}
}

func TestWatch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	file, dropin := filepath.Join(dir, "config.toml"), filepath.Join(dir, "config.d", "a.toml")
	changed, err := Watch(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(path, text string) { must(os.WriteFile(path, []byte(text), 0o644)) }
	for _, tt := range []struct {
		situation string
		do        func()
	}{
		{"the directory appears with the file", func() { must(os.MkdirAll(dir, 0o755)); put(file, "") }},
		{"written in place", func() { put(file, "# x") }},
		{"replaced", func() { put(file+"~", "# y"); must(os.Rename(file+"~", file)) }},
		{"the first drop-in", func() { must(os.MkdirAll(filepath.Dir(dropin), 0o755)); put(dropin, "") }},
		{"another one", func() { put(strings.Replace(dropin, "a.toml", "b.toml", 1), "") }},
		{"a drop-in is gone", func() { must(os.Remove(dropin)) }},
		{"the file is gone", func() { must(os.Remove(file)) }},
		{"the directory is gone", func() { must(os.RemoveAll(dir)) }},
		{"and comes again", func() { must(os.MkdirAll(dir, 0o755)); put(file, "") }},
		{"and is written", func() { put(file, "# z") }},
	} {
		tt.do()
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: nothing was told", tt.situation)
		}
	}
	put(filepath.Join(dir, "other.toml"), "")
	must(os.Chmod(file, 0o600))
	select {
	case <-changed:
		t.Error("told of another file")
	case <-time.After(2 * quiet):
	}
}
