package network

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cri/berth/cni/nettest"
)

func TestMain(m *testing.M) { nettest.Main(m) }

// open makes a Manager over directories of its own; change may alter the options.
func open(t testing.TB, change func(*Options)) *Manager {
	t.Helper()
	dir := t.TempDir()
	o := Options{
		Settings: Settings{ConfDir: filepath.Join(dir, "etc", "net.d"), BinDirs: []string{filepath.Join(dir, "bin")}},
		StateDir: filepath.Join(dir, "state"),
		Logger:   slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, d := range append(o.BinDirs, o.ConfDir) {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&o)
	}
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func builtinMode(o *Options) {
	o.BuiltinNetwork = true
	o.BuiltinBridge = "btest0"
	o.BuiltinSubnets = []string{"10.78.0.0/16", "fd78::/64"}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (m *Manager) writeConf(t testing.TB, name, text string) {
	t.Helper()
	write(t, filepath.Join(m.using.Load().ConfDir, name), text)
}

// script installs a plugin: a shell program that notes each call in the returned
// directory as <command>.env and <command>.in and then runs the lines given.
func (m *Manager) script(t testing.TB, name, body string) (notes string) {
	t.Helper()
	notes = t.TempDir()
	write(t, filepath.Join(m.using.Load().BinDirs[0], name), "#!/bin/sh\n"+
		"env > "+notes+"/$CNI_COMMAND.env\ncat > "+notes+"/$CNI_COMMAND.in\n"+
		"echo $CNI_COMMAND $CNI_IFNAME >> "+notes+"/calls\n"+body+"\n")
	if err := os.Chmod(filepath.Join(m.using.Load().BinDirs[0], name), 0o755); err != nil {
		t.Fatal(err)
	}
	return notes
}

// conflist is a list of plugins of the given types.
func conflist(version, name string, types ...string) string {
	plugins := make([]string, len(types))
	for i, typ := range types {
		plugins[i] = fmt.Sprintf(`{"type": %q, "capabilities": {"portMappings": true, "dns": true, "bandwidth": true, "io.kubernetes.cri.pod-annotations": true, "cgroupPath": true}}`, typ)
	}
	return fmt.Sprintf(`{"cniVersion": %q, "name": %q, "plugins": [%s]}`, version, name, strings.Join(plugins, ","))
}

const addResult = `test $CNI_COMMAND != ADD || echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [{"address": "10.9.8.7/24", "interface": 0}, {"address": "fd09::7/64"}]}'`

func pod(t testing.TB, id string) Pod {
	t.Helper()
	return Pod{ID: id, Name: "name-" + id, Namespace: "ns", UID: "uid-" + id, Netns: nettest.Pod(t)}
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func readJSON(t testing.TB, path string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(read(t, path)), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// soon waits for something that another goroutine does.
func soon(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func recorded(t testing.TB, m *Manager) []Record {
	t.Helper()
	all, err := m.Recorded()
	if err != nil {
		t.Fatal(err)
	}
	return all
}
