package hooks

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-cri/berth/runtime/oci"
)

// hook is a shell script as a hook.
func hook(script string, env ...string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"name", "-c", script}, Env: env}
}

func load(t *testing.T, config string) (*Set, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(&oci.Bundle{ID: "id", Dir: dir})
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("OURS", "leaked")
	set, err := load(t, `{"annotations":{"a":"b"},"hooks":{"prestart":[{"path":"/x"}]}}`)
	//lint:ignore SA1019 Prestart is deprecated, but specs still have it
	if err != nil || len(set.Prestart) != 1 {
		t.Fatalf("%+v, %v", set, err)
	}
	state, err := set.State(specs.StateCreating, 42)
	if err != nil {
		t.Fatal(err)
	}
	list := []specs.Hook{
		hook("cat >"+dir+"/state; echo \"$0 $OURS $MINE\" >"+dir+"/env", "MINE=1"),
		hook("sleep 1000 & echo $! >"+dir+"/left", "PATH=/bin:/usr/bin"), // what it leaves holds nobody up
	}
	began := time.Now()
	if err := Run(context.Background(), "prestart", list, state); err != nil || time.Since(began) > 30*time.Second {
		t.Fatalf("%v, after %s", err, time.Since(began))
	}
	b, _ := os.ReadFile(dir + "/left")
	left, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(left, syscall.SIGKILL); err != nil {
		t.Errorf("what a hook left was ended with it: %v", err)
	}
	var got specs.State
	b, _ = os.ReadFile(dir + "/state")
	if err := json.Unmarshal(b, &got); err != nil || got.ID != "id" || got.Pid != 42 || got.Status != "creating" || got.Annotations["a"] != "b" || got.Bundle == "" {
		t.Errorf("state %s, %v", b, err)
	}
	if b, _ := os.ReadFile(dir + "/env"); string(b) != "name  1\n" {
		t.Errorf("name and environment: %q", b)
	}
}

func TestRunFails(t *testing.T) {
	second := 1
	slow := hook("exec sleep 1000", "PATH=/bin:/usr/bin")
	slow.Timeout = &second
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, tc := range map[string]struct {
		ctx   context.Context
		hook  specs.Hook
		words []string
	}{
		"with words": {context.Background(), hook("echo sorry >&2; exit 3"), []string{"poststart hook /bin/sh", "exit status 3", "sorry"}},
		"with many":  {context.Background(), hook("while echo word; do :; done | head -c 1000000; exit 3", "PATH=/bin:/usr/bin"), []string{"exit status 3"}},
		"in time":    {context.Background(), slow, []string{"took more than 1s"}},
		"not there":  {context.Background(), specs.Hook{Path: "/no/such"}, []string{"/no/such", "no such file"}},
		"cancelled":  {cancelled, hook("exit 0"), []string{"canceled"}},
	} {
		t.Run(name, func(t *testing.T) {
			ran := filepath.Join(t.TempDir(), "ran")
			err := Run(tc.ctx, "poststart", []specs.Hook{tc.hook, hook(">" + ran)}, nil)
			for _, want := range tc.words {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("got %v, want %q", err, want)
				}
			}
			if len(err.Error()) > 2*maxWords {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			if _, err := os.Stat(ran); err == nil {
				t.Error("the next one was run")
			}
		})
	}
}

func TestLoadFails(t *testing.T) {
	for name, config := range map[string]string{"torn": "{", "empty": "", "too large": `{"annotations":{"a":"` + strings.Repeat("x", maxSpec) + `"}}`} {
		if _, err := load(t, config); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	if set, err := load(t, `{}`); err != nil || set.Hooks == nil {
		t.Errorf("without hooks: %v, %v", set, err)
	}
}
