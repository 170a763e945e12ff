package external

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci"
)

// program makes a runtime of a shell script.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runtime")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// container is one of that runtime, which knows it.
func container(t *testing.T, script string) *oci.External {
	t.Helper()
	r := &Runtime{Name: "test", Program: program(t, script), Root: t.TempDir(), Area: t.TempDir()}
	for _, dir := range []string{filepath.Join(r.Area, tmpDir), filepath.Join(r.Root, "0123456789abcdef0123")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := r.Container("0123456789abcdef0123", t.TempDir())
	return &c
}

func TestFailures(t *testing.T) {
	const find = `while [ "$1" != --log ]; do shift; done; log=$2; `
	for name, tc := range map[string]struct {
		script string
		words  string
		kind   func(error) bool
	}{
		"runc's log":           {find + `echo '{"level":"warning","msg":"w"}' >$log; echo '{"level":"error","msg":"exec: \"x\": executable file not found in $PATH"}' >>$log; exit 1`, "executable file not found", errdefs.IsNotFound},
		"crun's words":         {find + `echo '{"msg":"open /x: Permission denied","level":"error","time":"t"}' >$log; exit 1`, "open /x", errdefs.IsPermissionDenied},
		"its standard error":   {`echo first >&2; echo "mount /x: no space left on device" >&2; exit 1`, "mount /x", errdefs.IsResourceExhausted},
		"no words at all":      {`exit 7`, "exit status 7", errdefs.IsInternal},
		"a log that is no log": {find + `echo nonsense >$log; exit 1`, "exit status 1", errdefs.IsInternal},
		"an endless log":       {find + `head -c 1000000 /dev/zero >$log; echo >>$log; echo '{"level":"error","msg":"last"}' >>$log; exit 1`, "last", errdefs.IsInternal},
	} {
		t.Run(name, func(t *testing.T) {
			c := container(t, tc.script)
			err := run(context.Background(), c, nil, "update", c.ID)
			var step *oci.StepError
			if !errors.As(err, &step) || step.Step != "runtime update" || !strings.Contains(err.Error(), tc.words) || !tc.kind(err) {
				t.Errorf("got %v", err)
			}
			if left, _ := os.ReadDir(filepath.Join(c.Area, tmpDir)); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestDelete(t *testing.T) {
	c := container(t, `echo "$@" >>$0.calls; while [ "$1" != --root ]; do shift; done; rmdir $2/*`)
	ctx := context.Background()
	left := filepath.Join(c.Area, tmpDir, tmpPrefix(c.ID)+"left")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second has nothing to do
		if err := Forget(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	calls, _ := os.ReadFile(c.Program + ".calls")
	if n := strings.Count(string(calls), "\n"); n != 1 || !strings.Contains(string(calls), "delete --force "+c.ID) {
		t.Errorf("calls: %s", calls)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("what a killed call left is still there")
	}
	if c = container(t, "exit 1"); Delete(ctx, c) == nil {
		t.Error("a delete that fails is none")
	}
}

func TestStrangers(t *testing.T) {
	r := &Runtime{Root: t.TempDir(), OwnRoot: true}
	for _, id := range []string{"known", "stranger"} {
		if err := os.Mkdir(filepath.Join(r.Root, id), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	known := func(id string) bool { return id == "known" }
	if list, err := r.Strangers(known); err != nil || len(list) != 1 || list[0].ID != "stranger" {
		t.Errorf("%v, %v", list, err)
	}
	r.OwnRoot = false
	if list, err := r.Strangers(known); err != nil || len(list) != 0 {
		t.Errorf("in a root that others may use: %v, %v", list, err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("BERTH_FAULTS", "x")
	t.Setenv("OTHER", "stays")
	got := strings.Join(environment(), " ")
	if strings.Contains(got, "NOTIFY_SOCKET") || strings.Contains(got, "LISTEN_") || strings.Contains(got, "BERTH_") || !strings.Contains(got, "OTHER=stays") {
		t.Errorf("got %s", got)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		program string
		words   string
		want    Features
	}{
		"runc": {program(t, `case $1 in features) echo '{"ociVersionMax":"1.0.2","mountOptions":["rro","bind"],"linux":{"namespaces":["user"]}}';; exec) echo "--cgroup value";; esac`),
			"", Features{Known: true, MountOptions: []string{"bind", "rro"}, Namespaces: []string{"user"}, ExecCgroup: true}},
		"one without features":    {program(t, `test $1 != features`), "", Features{}},
		"one that talks nonsense": {program(t, `echo nonsense`), "features", Features{}},
		"no runtime":              {program(t, `exit 1`), "no OCI runtime", Features{}},
		"not there":               {dir + "/no-such", "does not exist", Features{}},
		"a directory":             {dir, "not an executable file", Features{}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Runtime{Program: tc.program, Root: t.TempDir()}
			err := r.Open(context.Background())
			if (err == nil) != (tc.words == "") || err != nil && (!strings.Contains(err.Error(), tc.words) || !errdefs.IsFailedPrecondition(err)) {
				t.Errorf("got %v", err)
			}
			if fmt.Sprint(r.Features) != fmt.Sprint(tc.want) {
				t.Errorf("features %+v, want %+v", r.Features, tc.want)
			}
		})
	}
}

func TestErrnoOf(t *testing.T) {
	for words, want := range map[string]unix.Errno{
		`exec: "x": executable file not found in $PATH`: unix.ENOENT, "No such file or directory": unix.ENOENT, "fine": 0,
		"permission denied by somebody": 0, "container init was OOM-killed (memory limit too low?)": unix.ENOMEM,
	} {
		if got := errnoOf(words); got != want {
			t.Errorf("%q: %v, want %v", words, got, want)
		}
	}
}

func FuzzParseFeatures(f *testing.F) {
	f.Add([]byte(`{"mountOptions":["rro"],"linux":{"namespaces":["user"]}}`))
	f.Add([]byte(`{"linux":null,"mountOptions":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := parseFeatures(b); err == nil && !got.Known {
			t.Errorf("%q is read, and not known", b)
		}
	})
}

func FuzzLastError(f *testing.F) {
	f.Add([]byte("{\"level\":\"error\",\"msg\":\"x\"}\n{"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) { lastError(b) })
}
