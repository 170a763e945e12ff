package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctorOfANode(t *testing.T) {
	n := newNode(t)
	doctor := func() map[string]string {
		t.Helper()
		r := runCommand(t, exec.Command(filepath.Join(programs, "berth"), "doctor", "-o", "json", "--config", n.path("config.toml")))
		var doc struct {
			Checks []struct{ Name, State, Found string }
		}
		if err := json.Unmarshal([]byte(r.out), &doc); err != nil {
			t.Fatalf("%v: %+v", err, r)
		}
		all := map[string]string{}
		for _, c := range doc.Checks {
			all[c.Name] = c.State + " " + c.Found
		}
		return all
	}
	wants := func(what string, checks map[string]string) {
		t.Helper()
		got := doctor()
		for name, want := range checks {
			if !strings.HasPrefix(got[name], want) {
				t.Errorf("%s: %s is %q, want %q", what, name, got[name], want)
			}
		}
	}
	wants("a node that runs", map[string]string{
		"daemon": "ok berth", "RuntimeReady": "ok yes", "NetworkReady": "ok yes", "CNI configuration": "ok the builtin network",
		"image records": "ok none", "trash": "ok ",
	})
	n.kill()
	n.write("root/images/broken/x.json", "{")
	n.write("config.d/10.toml", "[cni]\nbuiltin_network = false\n")
	wants("without a daemon", map[string]string{
		"daemon": "note none answers at " + n.path("sock"), "CNI configuration": "note none in " + n.path("net.d"), "image records": "note 1 cannot be read",
	})
	n.write("net.d/10.conflist", "{}")
	wants("with a network", map[string]string{"CNI configuration": "ok " + n.path("net.d/10.conflist")})
	n.write("config.d/10.toml", "")
	n.start()
}
