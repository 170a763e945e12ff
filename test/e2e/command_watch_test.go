package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestLogsCommand(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("talk"))
	id := n.run(pod, containerConfig("c", "for i in 1 2 3 4 5; do echo line $i; done; echo oops >&2; printf end"))
	n.wait(id)
	for name, tc := range map[string]struct {
		args []string
		want result
	}{
		"all of it":             {nil, result{"line 1\nline 2\nline 3\nline 4\nline 5\nend", "oops\n", 0}},
		"nothing new":           {[]string{"--tail", "0"}, result{}},
		"newer than the future": {[]string{"--since", time.Now().Add(time.Hour).Format(time.RFC3339)}, result{}},
		"of the last hour":      {[]string{"--since", "1h", "--tail", "100"}, result{"line 1\nline 2\nline 3\nline 4\nline 5\nend", "oops\n", 0}},
		"of what has ended":     {[]string{"-f"}, result{"line 1\nline 2\nline 3\nline 4\nline 5\nend", "oops\n", 0}},
	} {
		if r := n.operate(append([]string{"logs", "c"}, tc.args...)...); r != tc.want {
			t.Errorf("%s: %+v, want %+v", name, r, tc.want)
		}
	}
	if r := n.operate("logs", "-t", "c"); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\S+ line 1\n`).MatchString(r.out) {
		t.Errorf("with times: %+v", r)
	}
	if r := n.operate("logs", "-p", "c"); r.code != 1 || !strings.Contains(r.err, "no earlier attempt") {
		t.Errorf("previous of the first: %+v", r)
	}
	again := containerConfig("c", "echo second")
	again.Metadata.Attempt, again.LogPath = 1, "c-1.log"
	n.wait(n.run(pod, again))
	if r := n.operate("logs", "-p", "c"); !strings.HasPrefix(r.out, "line 1\n") {
		t.Errorf("previous: %+v", r)
	}
	if r := n.operate("logs", "c"); r.out != "second\n" {
		t.Errorf("of two ended ones the latest: %+v", r)
	}
}

func TestLogsFollowARotation(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("talk"))
	id := n.run(pod, containerConfig("c", "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo n$i; usleep 2000; done; echo last"))
	cmd := n.command("logs", "-f", "c")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	path := n.status(id).LogPath
	for i := 1; lines.Scan(); i++ {
		if i%200 == 0 && i <= 800 {
			if err := os.Rename(path, fmt.Sprintf("%s.%d", path, i)); err != nil {
				t.Error(err)
			}
			if _, err := n.rt.ReopenContainerLog(n.ctx(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id}); err != nil {
				t.Error(err)
			}
		}
		if i == 1000 {
			n.exec(id, "touch /stop")
		}
		if lines.Text() == "last" {
			continue
		}
		if lines.Text() != fmt.Sprintf("n%d", i) {
			t.Fatalf("line %d is %q", i, lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("at the end of the container: %v", err)
	}
}

func TestStatsAndTop(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	n.run(n.pod(n.podConfig("busy")), containerConfig("spin", "while :; do :; done"))
	n.run(n.pod(n.podConfig("idle")), containerConfig("sleep", "dd if=/dev/zero of=/file bs=1024 count=1000 2>/dev/null; sleep 1000; :"))
	r := n.operate("stats", "--interval", "300ms")
	wantTable(t, r, "CONTAINER|NAME|CPU %|MEMORY|SWAP|DISK|INODES|NAMESPACE|POD",
		`\w{13}\s+spin\s+([1-9]\d?|1\d\d)\.\d\s+\S+.*\s+busy`, `\w{13}\s+sleep\s+\d\.\d\s+\S+.*\s+idle`)
	if r := n.operate("stats", "--interval", "0", "-o", "json", "spin"); strings.Count(r.out, `"usageCoreNanoSeconds"`) != 1 {
		t.Errorf("%+v", r)
	}
	top := n.operate("top", "--count", "2", "--interval", "200ms")
	if top.code != 0 || strings.Count(top.out, "2 pods, 2 containers") != 2 {
		t.Errorf("%+v", top)
	}
	if ok, _ := regexp.MatchString(`(?s)CPU %\s+MEMORY\s+NET IN\s+NET OUT\s+PROCS\s+CONTAINERS\s+NAMESPACE\s+POD\s+\S+.*?busy.*?idle`, top.out); !ok {
		t.Errorf("%s", top.out)
	}
}

func TestEventsCommand(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("p"))
	table, lines := n.command("events", "-n", "4"), n.command("events", "-o", "json", "-n", "4")
	var tableOut, linesOut lockedBuffer
	table.Stdout, lines.Stdout = &tableOut, &linesOut
	for _, cmd := range []*exec.Cmd{table, lines} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 10*time.Second, "both listen", func() error {
		// Nothing tells from outside that they do, but the daemon's log at the end of a call.
		id := n.run(pod, containerConfig(fmt.Sprintf("c%d", time.Now().UnixNano()), "exit 4"))
		n.wait(id)
		if strings.Count(tableOut.String(), "\n") < 4 || strings.Count(linesOut.String(), "\n") < 4 {
			return fmt.Errorf("%s\n%s", tableOut.String(), linesOut.String())
		}
		return nil
	})
	for _, cmd := range []*exec.Cmd{table, lines} {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if ok, _ := regexp.MatchString(`(?m)^\S+ stopped \w{13} container c\d+ in \S+/p exit=4 reason=Error$`, tableOut.String()); !ok {
		t.Errorf("%s", tableOut.String())
	}
	for line := range strings.Lines(linesOut.String()) {
		var e struct{ ContainerID, ContainerEventType string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.ContainerID == "" || !strings.HasPrefix(e.ContainerEventType, "CONTAINER_") {
			t.Errorf("%v: %s", err, line)
		}
	}
}

func TestPruneCommand(t *testing.T) {
	n := newNode(t, func(n *node) { n.pins = `["registry.test/stopsint*"]` })
	n.pull(busybox)
	unused := n.pull(users)
	n.pull(stopsInt)
	n.run(n.pod(n.podConfig("p")), containerConfig("c", "sleep 1000; :"))
	if r := n.operate("prune"); r.code != 0 || r.out != "Nothing to remove.\n" {
		t.Errorf("every image has a tag: %+v", r)
	}
	if r := n.operate("prune", "-a", "--dry-run"); r.code != 0 || !strings.Contains(r.out, "registry.test/users:1") || !strings.Contains(r.out, "Would remove 1 image.") {
		t.Errorf("%+v", r)
	}
	if r := n.operate("prune", "-a"); r.code != 1 || !strings.Contains(r.err, "--yes") {
		t.Errorf("without a terminal: %+v", r)
	}
	// On a terminal it asks; ^C and everything but yes is no.
	for answer, want := range map[string]int{"\n": 0, "n\n": 0, "": 130} {
		master, slave := openTerminal(t)
		cmd := n.command("prune", "-a")
		cmd.Stdin, cmd.Stdout = slave, slave
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		slave.Close()
		screen := &lockedBuffer{}
		copied := make(chan struct{})
		go func() { io.Copy(screen, master); close(copied) }()
		eventually(t, 10*time.Second, "the question", func() error {
			if !strings.Contains(screen.String(), "Remove 1 image? [y/N]") {
				return fmt.Errorf("%q", screen.String())
			}
			return nil
		})
		if answer == "" {
			cmd.Process.Signal(unix.SIGINT)
		}
		master.WriteString(answer)
		if cmd.Wait(); cmd.ProcessState.ExitCode() != want {
			t.Errorf("%q: exit code %d", answer, cmd.ProcessState.ExitCode())
		}
		master.Close()
		<-copied
	}
	if n.image(users) == nil {
		t.Fatal("it is gone")
	}
	if r := n.operate("prune", "-a", "-y"); r.code != 0 || !strings.Contains(r.out, "Removed 1 image.") {
		t.Errorf("%+v", r)
	}
	if n.image(unused) != nil || n.image(busybox) == nil || n.image(stopsInt) == nil {
		t.Errorf("left: %v", n.imageList())
	}
}

func TestCommandsWithoutADaemon(t *testing.T) {
	t.Parallel()
	berth := filepath.Join(programs, "berth")
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: dead}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"no socket":          {[]string{"ps", "--address", filepath.Join(dir, "none")}, "no daemon is running at"},
		"nobody listens":     {[]string{"pods", "-a", "unix://" + dead}, "no daemon is running at " + dead},
		"not a unix socket":  {[]string{"pods", "-a", "tcp://127.0.0.1:1"}, "a unix socket is wanted"},
		"unknown format":     {[]string{"ps", "-o", "xml"}, "none of table, json, yaml"},
		"from the config":    {[]string{"images", "-c", filepath.Join(dir, "config.toml")}, "no daemon is running at " + dir + "/state/berth.sock"},
		"a word that is not": {[]string{"pss"}, `unknown command "pss"`},
	} {
		if err := os.WriteFile(filepath.Join(dir, "config.toml"), fmt.Appendf(nil, "state = %q\n", dir+"/state"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := runCommand(t, exec.Command(berth, tc.args...))
		if r.code != 1 || r.out != "" || !strings.Contains(r.err, tc.want) || !strings.HasPrefix(r.err, "berth: ") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
