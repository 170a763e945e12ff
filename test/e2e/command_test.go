package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/yaml"
)

// result of a berth command.
type result struct {
	out, err string
	code     int
}

// command is berth with the node's socket; the address goes before what may be
// another command's arguments.
func (n *node) command(args ...string) *exec.Cmd {
	args = slices.Insert(slices.Clone(args), 1, "--address", n.path("sock"))
	return exec.Command(filepath.Join(programs, "berth"), args...)
}

func (n *node) operate(args ...string) result { return runCommand(n.t, n.command(args...)) }

func runCommand(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// wantTable checks titles, and that each regular expression fits some line.
func wantTable(t *testing.T, r result, title string, lines ...string) {
	t.Helper()
	first, _, _ := strings.Cut(r.out, "\n")
	if r.code != 0 || r.err != "" || strings.Join(regexp.MustCompile(`\s{2,}`).Split(strings.TrimSpace(first), -1), "|") != title {
		t.Errorf("want the titles %q: %+v", title, r)
	}
	for _, l := range lines {
		if ok, err := regexp.MatchString("(?m)^"+l+`\s*$`, r.out); err != nil || !ok {
			t.Errorf("no line %q (%v) in:\n%s", l, err, r.out)
		}
	}
}

func TestCommandsThatList(t *testing.T) {
	n := newNode(t)
	image := n.pull(busybox)
	n.pull(users)
	pod := n.pod(n.podConfig("web"))
	id := n.run(pod, containerConfig("srv", "sleep 1000; :"))
	gone := n.run(pod, containerConfig("job", "exit 3"))
	n.wait(gone)

	wantTable(t, n.operate("pods"), "POD ID|CREATED|STATE|NAMESPACE|NAME|ATTEMPT|RUNTIME", pod[:13]+`\s+\d+s ago\s+ready\s+\S+\s+web\s+0\s+\(default\)`)
	ps := n.operate("ps")
	wantTable(t, ps, "CONTAINER|IMAGE|CREATED|STATE|NAME|ATTEMPT|POD ID|NAMESPACE|POD",
		id[:13]+`\s+registry.test/busybox:1\s+\d+s ago\s+running\s+srv\s+0\s+`+pod[:13]+`\s+\S+\s+web`)
	if strings.Contains(ps.out, gone[:13]) {
		t.Error("ps lists what has ended")
	}
	wantTable(t, n.operate("images"), "IMAGE|TAG|IMAGE ID|SIZE|PINNED", `registry.test/busybox\s+1\s+`+strings.TrimPrefix(image, "sha256:")[:13]+`\s+\S+iB\s+-`)
	for name, tc := range map[string]struct {
		args []string
		want []string // lines
	}{
		"all containers":           {[]string{"ps", "-aq"}, []string{gone, id}},
		"the latest":               {[]string{"ps", "-q", "-n", "1"}, []string{gone}},
		"by state":                 {[]string{"ps", "-q", "--state", "exited"}, []string{gone}},
		"by name":                  {[]string{"ps", "-aq", "--name", "job"}, []string{gone}},
		"by pod":                   {[]string{"ps", "-q", "--pod", "web"}, []string{id}},
		"by image":                 {[]string{"ps", "-q", "--image", busybox}, []string{id}},
		"by an image of none":      {[]string{"ps", "-q", "--image", users}, nil},
		"by a label of none":       {[]string{"ps", "-q", "-l", "no=such"}, nil},
		"pods that are ready":      {[]string{"pods", "-q", "--state", "ready"}, []string{pod}},
		"pods that are not":        {[]string{"pods", "-q", "--state", "notready"}, nil},
		"images that begin so":     {[]string{"images", "-q", "registry.test/busy"}, []string{image}},
		"images that are pinned":   {[]string{"images", "-q", "--pinned"}, nil},
		"completion of containers": {[]string{"__complete", "logs", "--address", n.path("sock"), "s"}, []string{"srv", ":4"}},
	} {
		r := n.operate(tc.args...)
		if tc.args[0] == "__complete" {
			r = runCommand(t, exec.Command(filepath.Join(programs, "berth"), tc.args...))
			r.out = regexp.MustCompile(`\t[^\n]*`).ReplaceAllString(r.out, "")
		}
		if got := strings.Fields(r.out); r.code != 0 || !slices.Equal(got, tc.want) && len(got)+len(tc.want) > 0 {
			t.Errorf("%s: %+v, want %q", name, r, tc.want)
		}
	}

	// For programs: the CRI's own names, the same in JSON and YAML.
	var list runtimeapi.ListContainersResponse
	j := n.operate("ps", "-o", "json")
	if err := json.Unmarshal([]byte(j.out), &struct{ Containers *[]*runtimeapi.Container }{&list.Containers}); err != nil && !strings.Contains(err.Error(), "cannot unmarshal string") {
		t.Errorf("%v: %s", err, j.out)
	}
	y, err := yaml.YAMLToJSON([]byte(n.operate("ps", "-o", "yaml").out))
	var a, b any
	if err != nil || json.Unmarshal(y, &a) != nil || json.Unmarshal([]byte(j.out), &b) != nil || fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("JSON and YAML differ: %v\n%s\n%s", err, j.out, y)
	}
	if !strings.Contains(j.out, `"podSandboxId": "`+pod+`"`) {
		t.Errorf("json: %s", j.out)
	}
}

func TestInspect(t *testing.T) {
	n := newNode(t)
	image := n.pull(busybox)
	pod := n.pod(n.podConfig("web"))
	id := n.run(pod, containerConfig("srv", "sleep 1000; :"))
	for name, tc := range map[string]struct{ word, id string }{
		"container by name":        {"srv", id},
		"container by prefix":      {id[:12], id},
		"pod by name":              {"web", pod},
		"pod by id":                {pod, pod},
		"image by name":            {busybox, image},
		"image by the end of none": {strings.TrimPrefix(image, "sha256:")[:20], image},
	} {
		r := n.operate("inspect", tc.word)
		var doc struct {
			Status struct{ ID string }
			Info   map[string]any
		}
		if err := json.Unmarshal([]byte(r.out), &doc); err != nil || doc.Status.ID != tc.id || len(doc.Info) == 0 {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
		paths, _ := doc.Info["paths"].(map[string]any)
		if name == "container by name" && len(paths) != 4 || name == "pod by name" && len(paths) != 1 {
			t.Errorf("%s: paths %v", name, paths)
		}
		for what, path := range paths {
			if !exists(fmt.Sprint(path)) {
				t.Errorf("%s: %s %v is not there", name, what, path)
			}
		}
	}
	if r := n.operate("inspect", "nothing"); r.code != 1 || r.out != "" || r.err != "berth: no container, pod or image \"nothing\"\n" {
		t.Errorf("%+v", r)
	}
	if r := n.operate("inspect", "--type", "pod", "srv"); r.code != 1 || !strings.Contains(r.err, `no pod "srv"`) {
		t.Errorf("%+v", r)
	}
}

func TestExecCommand(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("box")
	for name, tc := range map[string]struct {
		args  []string
		stdin string
		want  result
	}{
		"streams and exit code": {[]string{"exec", id, "sh", "-c", "echo out; echo err >&2; exit 7"}, "", result{"out\n", "err\n", 7}},
		"success":               {[]string{"exec", id, "true"}, "", result{}},
		"input to its end":      {[]string{"exec", "-i", id, "cat"}, "hello\n", result{out: "hello\n"}},
		"no input":              {[]string{"exec", id, "cat"}, "not passed on", result{}},
		"as a probe":            {[]string{"exec", "--sync", id, "sh", "-c", "echo out; echo err >&2; exit 3"}, "", result{"out\n", "err\n", 3}},
		"flags of the command":  {[]string{"exec", id, "echo", "-n", "--tty"}, "", result{out: "--tty"}},
		"no such program":       {[]string{"exec", "--sync", id, "/no/such"}, "", result{code: 1}},
		"a large output":        {[]string{"exec", id, "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"}, "", result{out: strings.Repeat("x", 3000000)}},
	} {
		cmd := n.command(tc.args...)
		cmd.Stdin = strings.NewReader(tc.stdin)
		r := runCommand(t, cmd)
		if name == "no such program" {
			if r.code != 1 || !strings.Contains(r.err, "/no/such") {
				t.Errorf("%s: %+v", name, r)
			}
			continue
		}
		if r != tc.want {
			t.Errorf("%s: %.200q %.200q %d", name, r.out, r.err, r.code)
		}
	}
	t.Run("on a terminal", func(t *testing.T) {
		master, slave := openTerminal(t)
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 101}); err != nil {
			t.Fatal(err)
		}
		// The size comes after the start, as with every client: it is a message of the stream.
		cmd := n.command("exec", "-it", id, "sh", "-c", "until stty size | grep 33; do usleep 10000; done 2>/dev/null; read line; echo got $line; stty size; exit 5")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		slave.Close()
		screen := &lockedBuffer{}
		copied := make(chan struct{})
		go func() { io.Copy(screen, master); close(copied) }()
		shows := func(text string) {
			t.Helper()
			eventually(t, 10*time.Second, "the terminal shows "+text, func() error {
				if !strings.Contains(screen.String(), text) {
					return fmt.Errorf("%q", screen.String())
				}
				return nil
			})
		}
		shows("33 101")
		unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 44, Col: 102})
		cmd.Process.Signal(unix.SIGWINCH) // it has no controlling terminal that would
		eventually(t, 10*time.Second, "the size in the container", func() error {
			if out, _ := n.exec(id, "for t in /dev/pts/[0-9]*; do stty size <$t; done"); !strings.Contains(out, "44 102") {
				return fmt.Errorf("%q", out)
			}
			return nil
		})
		master.WriteString("hello\n")
		shows("got hello")
		shows("44 102")
		if cmd.Wait(); cmd.ProcessState.ExitCode() != 5 {
			t.Errorf("exit code %d", cmd.ProcessState.ExitCode())
		}
		master.Close()
		<-copied
	})
}

// openTerminal makes a terminal of the host.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return master, slave
}
