package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// rawLog is the lines of a log without their times.
func (n *node) rawLog(path string) (lines []string) {
	n.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	last := ""
	for _, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		at, rest, _ := strings.Cut(line, " ")
		if at < last {
			n.t.Errorf("%s: time goes back from %s to %s", filepath.Base(path), last, at)
		}
		last = at
		lines = append(lines, rest)
	}
	return lines
}

func TestLogLines(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("lines", hostNetwork))
	x := func(count int) string { return strings.Repeat("x", count) }
	line := func(count int) string { return fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", count) }
	for name, tc := range map[string]struct {
		script string
		want   []string
	}{
		"two":              {"echo a; echo b", []string{"stdout F a", "stdout F b"}},
		"empty":            {"echo; echo a; echo", []string{"stdout F ", "stdout F a", "stdout F "}},
		"no end":           {"echo a; printf b", []string{"stdout F a", "stdout P b"}},
		"streams in turn":  {"echo a; sleep 0.1; echo b >&2; sleep 0.1; echo c", []string{"stdout F a", "stderr F b", "stdout F c"}},
		"blanks are kept":  {`printf ' a \r\n\tb\n'`, []string{"stdout F  a \r", "stdout F \tb"}},
		"as long as one":   {line(16384) + "; echo; echo b", []string{"stdout F " + x(16384), "stdout F b"}},
		"a byte longer":    {line(16385) + "; echo; echo b", []string{"stdout P " + x(16384), "stdout F x", "stdout F b"}},
		"very long":        {line(50000) + "; echo", []string{"stdout P " + x(16384), "stdout P " + x(16384), "stdout P " + x(16384), "stdout F " + x(50000-3*16384)}},
		"long without end": {line(20000), []string{"stdout P " + x(16384), "stdout P " + x(20000-16384)}},
		"slowly":           {"printf a; sleep 0.2; printf b; sleep 0.2; echo c", []string{"stdout F abc"}},
		"by name":          {"echo a >/dev/stdout; echo b >/proc/self/fd/1; sleep 0.1; echo c >/dev/stderr", []string{"stdout F a", "stdout F b", "stderr F c"}},
		"a child's, later": {"(sleep 0.3; echo child) & echo main; exit 0", []string{"stdout F main"}}, // dies with PID 1
	} {
		n.sub(name, func(n *node) {
			st := n.wait(n.run(pod, containerConfig(strings.ReplaceAll(name, " ", "-"), tc.script)))
			got := n.rawLog(st.LogPath)
			if strings.Join(got, "\n") != strings.Join(tc.want, "\n") {
				t.Errorf("got %d lines %.300q, want %d %.300q", len(got), got, len(tc.want), tc.want)
			}
			info, err := os.Stat(st.LogPath)
			if err != nil || info.Mode() != 0o640 {
				t.Errorf("log: %v, %v", info.Mode(), err)
			}
		})
	}
	st := n.wait(n.run(pod, containerConfig("time", "echo a")))
	b, _ := os.ReadFile(st.LogPath)
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}(Z|[+-]\d\d:\d\d) stdout F a\n$`).Match(b) {
		t.Errorf("line: %q", b)
	}
}

func TestLogPaths(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("paths", hostNetwork))
	none := n.pod(n.podConfig("none", hostNetwork, func(c *runtimeapi.PodSandboxConfig) { c.LogDirectory = "" }))
	path := func(p string) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) { c.LogPath = p }
	}
	for name, tc := range map[string]struct{ pod, path, want string }{
		"nested":            {pod, "app/0.log", n.path("log/paths/app/0.log")},
		"no-path":           {pod, "", ""},
		"no-directory":      {none, "app/0.log", ""},
		"dots-that-stay-in": {pod, "./a..b/0.log", n.path("log/paths/a..b/0.log")},
	} {
		st := n.wait(n.run(tc.pod, containerConfig(name, "head -c 100000 /dev/zero; echo done", path(tc.path))))
		if st.LogPath != tc.want || st.ExitCode != 0 {
			t.Errorf("%s: path %q, exit %d", name, st.LogPath, st.ExitCode)
		}
		if tc.want != "" && !exists(tc.want) {
			t.Errorf("%s: no log", name)
		}
	}
	// A log goes on where there was one, as the kubelet expects of a restart.
	for _, attempt := range []uint32{0, 1} {
		n.wait(n.run(pod, containerConfig("again", "echo x", path("again.log"), func(c *runtimeapi.ContainerConfig) { c.Metadata.Attempt = attempt })))
	}
	if got := n.logged(n.path("log/paths/again.log"), "stdout"); got != "x\nx\n" {
		t.Errorf("log of two attempts: %q", got)
	}
	// A log that cannot be made is an error of the start, which says so.
	if err := os.MkdirAll(n.path("log/paths/taken.log"), 0o755); err != nil {
		t.Fatal(err)
	}
	id, err := n.create(pod, containerConfig("taken", "true"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
	wantCode(t, "a directory as log", err, codes.FailedPrecondition, "taken.log")
	if id, err = n.create(pod, containerConfig("below", "true", path("again.log/below.log"))); err != nil {
		t.Fatal(err)
	}
	_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
	wantCode(t, "a file as directory of the log", err, codes.FailedPrecondition, "again.log")
}

// Rotation as the kubelet does it: rename, reopen; nothing is lost or doubled.
func TestLogRotation(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("rotation", hostNetwork))
	id := n.run(pod, containerConfig("counter", counter))
	path := n.status(id).LogPath
	reopen := func() error {
		_, err := n.rt.ReopenContainerLog(n.ctx(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
		return err
	}
	var all strings.Builder
	for i := range 10 {
		time.Sleep(50 * time.Millisecond)
		old := fmt.Sprintf("%s.%d", path, i)
		if err := os.Rename(path, old); err != nil {
			t.Fatal(err)
		}
		if err := reopen(); err != nil {
			t.Fatal(err)
		}
		if !exists(path) {
			t.Fatal("no new log on return")
		}
		all.WriteString(n.logged(old, "stdout"))
		before, _ := os.Stat(old)
		time.Sleep(20 * time.Millisecond)
		if after, _ := os.Stat(old); after.Size() != before.Size() {
			t.Errorf("the old log grew from %d to %d after the call returned", before.Size(), after.Size())
		}
	}
	if err := reopen(); err != nil { // with nothing renamed
		t.Fatal(err)
	}
	n.stop(id, 0)
	all.WriteString(n.logged(path, "stdout"))
	lines := strings.Split(strings.TrimSuffix(all.String(), "\n"), "\n")
	for i, line := range lines {
		if line != fmt.Sprint(i) {
			t.Fatalf("line %d of %d over all logs is %q", i, len(lines), line)
		}
	}
	if len(lines) < 100 {
		t.Errorf("only %d lines", len(lines))
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "reopen for an exited container", reopen(), codes.FailedPrecondition, "exited")
	if exists(path) {
		t.Error("a refused reopen made a file")
	}
	created, err := n.create(pod, containerConfig("created", "true"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.rt.ReopenContainerLog(n.ctx(), &runtimeapi.ReopenContainerLogRequest{ContainerId: created})
	wantCode(t, "reopen for a created container", err, codes.FailedPrecondition, "created")
	if exists(n.path("log/rotation/created.log")) {
		t.Error("a refused reopen made a file")
	}
	// One that runs without a log has nothing to reopen.
	id = n.run(pod, containerConfig("silent", "sleep 1000; :", func(c *runtimeapi.ContainerConfig) { c.LogPath = "" }))
	if err := reopen(); err != nil {
		t.Errorf("reopen without a log: %v", err)
	}
}

// A reopen that fails leaves the old log in use.
func TestLogReopenFails(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("stays", hostNetwork))
	id := n.run(pod, containerConfig("counter", counter))
	path := n.status(id).LogPath
	old := path + ".old"
	if err := os.Rename(path, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := n.rt.ReopenContainerLog(n.ctx(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id}); err == nil {
		t.Error("reopened a directory")
	}
	before := n.counted(old)
	eventually(t, 10*time.Second, "the old log grows", func() error {
		if n.counted(old) <= before {
			return fmt.Errorf("%d lines", before)
		}
		return nil
	})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// A full disk costs lines, never the container its progress.
func TestLogOnAFullDisk(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	dir := n.privateMount("small") // 4 MiB
	pod := n.pod(n.podConfig("full", hostNetwork, func(c *runtimeapi.PodSandboxConfig) { c.LogDirectory = dir }))
	done := n.run(pod, containerConfig("floods", "i=0; while [ $i -lt 200 ]; do head -c 60000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done; exit 7"))
	if st := n.wait(done); st.ExitCode != 7 {
		t.Errorf("ended: %v", st)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Bfree > 16 {
		t.Errorf("the disk is not full: %d, %v", st.Bfree, err)
	}
	n.rawLog(n.status(done).LogPath) // whole lines only: the last one too
	b, _ := os.ReadFile(n.status(done).LogPath)
	if len(b) == 0 || b[len(b)-1] != '\n' {
		t.Error("a torn line at the end")
	}
	// With room again the log goes on, and says that it missed something.
	runs := n.run(pod, containerConfig("waits", "echo lost; until [ -e /go ]; do sleep 0.05; done; echo found; sleep 1000; :"))
	if err := os.Truncate(n.status(done).LogPath, 0); err != nil {
		t.Fatal(err)
	}
	n.exec(runs, "touch /go")
	path := n.status(runs).LogPath
	eventually(t, 10*time.Second, "the log goes on", func() error {
		if got := strings.Join(n.rawLog(path), "\n"); !strings.HasSuffix(got, "stdout F found") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if got := strings.Join(n.rawLog(path), "\n"); !strings.Contains(got, "lost here") && !strings.Contains(got, "stdout F lost") {
		t.Errorf("lines were lost without a word: %q", got)
	}
}

// What a program does with its streams.
func TestStreams(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("streams", hostNetwork))
	stdin := func(c *runtimeapi.ContainerConfig) { c.Stdin = true }
	tty := func(c *runtimeapi.ContainerConfig) { c.Tty = true }
	for name, tc := range map[string]struct {
		script string
		change func(*runtimeapi.ContainerConfig)
		want   string
	}{
		"no input":   {"readlink /proc/self/fd/0; cat; echo end", func(*runtimeapi.ContainerConfig) {}, "/dev/null\nend\n"},
		"open input": {"(sleep 0.5; kill $$) & read x && echo got; echo end", stdin, ""},
		"pipes":      {"[ -p /dev/stdout ] && [ -p /dev/stderr ] && [ ! -t 1 ] && echo yes", func(*runtimeapi.ContainerConfig) {}, "yes\n"},
		"a terminal": {"tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo yes >&2; echo $TERM", tty, "/dev/pts/0\r\nyes\r\nxterm\r\n"},
		"another user's": {"echo out >/dev/stdout; sleep 0.1; echo err >/dev/stderr", func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 1000}
		}, "out\nerr\n"},
	} {
		n.sub(name, func(n *node) {
			cfg := containerConfig(strings.ReplaceAll(name, " ", "-"), tc.script, tc.change)
			if name == "open input" {
				// It waits for input that does not come, and is not told the end.
				id := n.run(pod, cfg)
				time.Sleep(100 * time.Millisecond)
				if st := n.status(id); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
					t.Errorf("did not wait for its input: %v", st)
				}
				n.stop(id, 0)
				return
			}
			if got := n.logged(n.wait(n.run(pod, cfg)).LogPath, "stdout", "stderr"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
