package e2e

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// execSync runs a command with a timeout in seconds.
func (n *node) execSync(ctx context.Context, id string, timeout int64, cmd ...string) (*runtimeapi.ExecSyncResponse, error) {
	return n.rt.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: cmd, Timeout: timeout})
}

// box is a pod with a container that sleeps.
func (n *node) box(name string, change ...func(*runtimeapi.ContainerConfig)) (pod, container string) {
	n.t.Helper()
	pod = n.pod(n.podConfig(name, hostNetwork))
	return pod, n.run(pod, containerConfig("box", "sleep 1000; :", change...))
}

func TestExecSync(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod, id := n.box("exec")
	for name, tc := range map[string]struct {
		script         string
		stdout, stderr string
		code           int32
	}{
		"nothing":                   {"", "", "", 0},
		"streams apart":             {"echo out; echo err >&2; echo out2", "out\nout2\n", "err\n", 0},
		"failure with output":       {"echo no; exit 1", "no\n", "", 1},
		"largest code":              {"exit 255", "", "", 255},
		"no line end":               {"printf x", "x", "", 0},
		"bytes that are no text":    {`printf '\000\377\n'`, "\x00\xff\n", "", 0},
		"a signal":                  {"kill -TERM $$", "", "", 143},
		"killed":                    {"kill -KILL $$", "", "", 137},
		"no input":                  {"cat; wc -c", "0\n", "", 0},
		"closed output":             {"exec >&- 2>&-; exit 4", "", "", 4},
		"what is left writes later": {"(sleep 0.2; echo late) & echo early", "early\nlate\n", "", 0},
		"no descriptor of others":   {"ls /proc/self/fd | wc -l", "4\n", "", 0},
		"no controlling terminal":   {"exec 2>/dev/null; echo x >/dev/tty || echo none", "none\n", "", 0},
		"a process of no other":     {"cat /proc/1/comm", "sh\n", "", 0},
	} {
		r, err := n.execSync(n.ctx(), id, 30, "sh", "-c", tc.script)
		if err != nil || string(r.Stdout) != tc.stdout || string(r.Stderr) != tc.stderr || r.ExitCode != tc.code {
			t.Errorf("%s: %q %q %d %v", name, r.GetStdout(), r.GetStderr(), r.GetExitCode(), err)
		}
	}
	for name, tc := range map[string]struct {
		cmd   []string
		code  codes.Code
		words []string
	}{
		"no command":      {nil, codes.InvalidArgument, []string{"cmd"}},
		"empty program":   {[]string{""}, codes.InvalidArgument, []string{"empty"}},
		"missing program": {[]string{"no-such-program", "x"}, codes.FailedPrecondition, []string{"no-such-program", "not found"}},
		"missing path":    {[]string{"/no/such"}, codes.FailedPrecondition, []string{"/no/such", "no such file"}},
		"not executable":  {[]string{"/etc/passwd"}, codes.PermissionDenied, []string{"/etc/passwd"}},
		"a directory":     {[]string{"/etc"}, own(codes.InvalidArgument, codes.PermissionDenied), []string{"/etc"}},
		"a NUL":           {[]string{"sh", "-c", "a\x00b"}, codes.InvalidArgument, []string{"NUL"}},
	} {
		_, err := n.execSync(n.ctx(), id, 30, tc.cmd...)
		wantCode(t, name, err, tc.code, tc.words...)
	}
	_, err := n.execSync(n.ctx(), id, -1, "true")
	wantInvalid(t, "negative timeout", err, "timeout")

	created, err := n.create(pod, containerConfig("created", "true"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.execSync(n.ctx(), created, 0, "true")
	wantCode(t, "in a created container", err, codes.FailedPrecondition, "created")
	done := n.run(pod, containerConfig("done", "true"))
	n.wait(done)
	_, err = n.execSync(n.ctx(), done, 0, "true")
	wantCode(t, "in an exited container", err, codes.FailedPrecondition, "exited")

	if got, _ := n.exec(id, "ps -o stat | grep -c Z"); got != "0\n" {
		out, _ := n.exec(id, "ps -o pid,ppid,stat,args")
		t.Errorf("zombies: %s", out)
	}
	// What a command left running keeps its cgroup, until a later one looks.
	for range 6 {
		n.exec(id, "sleep 0.1 >/dev/null 2>&1 &")
	}
	eventually(t, 10*time.Second, "cgroups of commands that ended are gone", func() error {
		n.exec(id, "true")
		if left := n.execCgroups(); len(left) != 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

// execCgroups are the cgroups of commands in containers.
func (n *node) execCgroups() (found []string) {
	for _, dir := range cgroupsBelow(n.cgroup) {
		if strings.Contains(dir, "/exec-") {
			found = append(found, dir)
		}
	}
	return found
}

// The reply must fit into what the kubelet's client takes, 16 MiB in all.
func TestExecOutputIsBounded(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("chatty")
	for name, tc := range map[string]struct {
		script      string
		least, most int
	}{
		"just below":   {"head -c 16000000 /dev/zero", 16000000, 16000000},
		"one stream":   {"head -c 40000000 /dev/zero", 15 << 20, 16 << 20},
		"both streams": {"head -c 20000000 /dev/zero & head -c 20000000 /dev/zero >&2; wait", 15 << 20, 16 << 20},
	} {
		r, err := n.execSync(n.ctx(), id, 60, "sh", "-c", tc.script+"; exit 3")
		if err != nil || r.ExitCode != 3 {
			t.Errorf("%s: %d, %v", name, r.GetExitCode(), err)
		}
		if got := len(r.GetStdout()) + len(r.GetStderr()); got < tc.least || got > tc.most {
			t.Errorf("%s: %d bytes", name, got)
		}
		if len(bytes.Trim(r.GetStdout(), "\x00")) != 0 {
			t.Errorf("%s: other bytes than were written", name)
		}
	}
	// Endless output is cut by the timeout, and does not grow the daemon for it.
	before := rss(t, n.cmd.Process.Pid)
	_, err := n.execSync(n.ctx(), id, 1, "sh", "-c", "cat /dev/zero & cat /dev/zero >&2")
	wantCode(t, "endless", err, codes.DeadlineExceeded)
	if grown := rss(t, n.cmd.Process.Pid) - before; grown > 96<<20 {
		t.Errorf("the daemon grew by %d MiB", grown>>20)
	}
}

// left counts processes of the container by a word of their command line.
func (n *node) left(id, word string) string {
	n.t.Helper()
	out, _ := n.exec(id, "ps -o args | grep -c '["+word[:1]+"]"+word[1:]+"'")
	return strings.TrimSpace(out)
}

func TestExecTimeoutKillsAll(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("timeout")
	const family = "trap '' TERM HUP INT; (setsid sleep 777 &); setsid sh -c 'sleep 777; :' & (sleep 777 &) ; echo begun; sleep 777; :"
	began := time.Now()
	_, err := n.execSync(n.ctx(), id, 1, "sh", "-c", family)
	wantCode(t, "timeout", err, codes.DeadlineExceeded, "timed out")
	if took := time.Since(began); took < time.Second || took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if got := n.left(id, "sleep 777"); got != "0" {
		t.Errorf("%s processes of it live on after the timeout", got)
	}

	// The client goes away, by cancelling and by its deadline.
	ctx, cancel := context.WithCancel(n.ctx())
	time.AfterFunc(300*time.Millisecond, cancel)
	_, err = n.execSync(ctx, id, 0, "sh", "-c", family)
	wantCode(t, "cancelled", err, codes.Canceled)
	gone := func(what string) {
		t.Helper()
		eventually(t, 10*time.Second, what, func() error {
			if got := n.left(id, "sleep 777"); got != "0" {
				return fmt.Errorf("%s processes live on", got)
			}
			return nil
		})
	}
	gone("nothing of a cancelled command is left")
	ctx, cancel = context.WithTimeout(n.ctx(), 300*time.Millisecond)
	defer cancel()
	_, err = n.execSync(ctx, id, 600, "sh", "-c", family)
	wantCode(t, "the client's deadline", err, codes.DeadlineExceeded)
	gone("nothing of a command is left after its client's deadline")
	eventually(t, 10*time.Second, "no cgroup is left", func() error {
		n.exec(id, "true")
		if left := n.execCgroups(); len(left) != 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	if st := n.status(id); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the container: %v", st)
	}
}

// A child in the background holds the pipe: the answer must not wait for it.
func TestExecLeavesAChild(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("daemonizing")
	before := len(descriptors(n.cmd.Process.Pid, ""))
	for range 5 {
		began := time.Now()
		r, err := n.execSync(n.ctx(), id, 0, "sh", "-c", "sleep 888 & echo started")
		if err != nil || string(r.Stdout) != "started\n" || r.ExitCode != 0 {
			t.Errorf("%v, %v", r, err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("waited %s for a child in the background", took)
		}
	}
	if got := n.left(id, "sleep 888"); got != "5" {
		t.Errorf("%s of 5 children live on; they belong to the container now", got)
	}
	if after := len(descriptors(n.cmd.Process.Pid, "")); after > before+2 {
		t.Errorf("descriptors of the daemon: %d, before: %d", after, before)
	}
	n.stop(id, 0)
	eventually(t, 5*time.Second, "nothing is left", func() error {
		if left := n.processes(); len(left) != 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

func TestManyExecs(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	_, id := n.box("busy")
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			r, err := n.execSync(n.ctx(), id, 30, "sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i))
			if err != nil || string(r.Stdout) != fmt.Sprintln(i) || r.ExitCode != int32(i) {
				t.Errorf("%d: %v, %v", i, r, err)
			}
		})
	}
	wg.Wait()
	before, inMonitor := len(descriptors(n.cmd.Process.Pid, "")), len(descriptors(n.monitor(), ""))
	for range 50 {
		n.exec(id, "true")
	}
	if after := len(descriptors(n.cmd.Process.Pid, "")); after > before+3 {
		t.Errorf("descriptors of the daemon: %d, before: %d", after, before)
	}
	if after := len(descriptors(n.monitor(), "")); after > inMonitor+3 {
		t.Errorf("descriptors of the monitor: %d, before: %d", after, inMonitor)
	}
	eventually(t, 10*time.Second, "no cgroup is left", func() error {
		if left := n.execCgroups(); len(left) != 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

// An exec is in the container's place in everything.
func TestExecIsLikeItsContainer(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	const script = "id; pwd; env | grep -v -e SHLVL -e '^_='; umask; ulimit -n; grep -E 'Cap|NoNew|Seccomp:|Groups|Uid|Gid' /proc/self/status; " +
		"cat /proc/self/oom_score_adj; for ns in net ipc uts mnt pid; do readlink /proc/self/ns/$ns; done; " +
		"touch /x 2>&1; grep -c . /proc/self/mountinfo; cat /proc/self/attr/current 2>/dev/null"
	// The cgroup of an exec is one below the container's.
	const cgroup = "sed 's,exec-[0-9a-f]*$,,; s,\\([^:]\\)/$,\\1,' /proc/self/cgroup"
	for name, change := range map[string]func(*runtimeapi.ContainerConfig){
		"ordinary": func(*runtimeapi.ContainerConfig) {},
		"restricted": func(c *runtimeapi.ContainerConfig) {
			s := c.Linux.SecurityContext
			s.RunAsUser, s.RunAsGroup = &runtimeapi.Int64Value{Value: 1000}, &runtimeapi.Int64Value{Value: 77}
			s.SupplementalGroups = []int64{5, 6}
			s.NoNewPrivs, s.ReadonlyRootfs = true, true
			s.Capabilities = &runtimeapi.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_RAW"}}
			s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
		},
		"its own words": func(c *runtimeapi.ContainerConfig) {
			c.WorkingDir = "/var/work"
			c.Envs = []*runtimeapi.KeyValue{{Key: "A", Value: []byte("b c")}, {Key: "BYTES", Value: []byte("\xff\xfe")}}
			c.Linux.Resources = &runtimeapi.LinuxContainerResources{OomScoreAdj: 500}
		},
	} {
		n.sub(name, func(n *node) {
			pod := n.pod(n.podConfig(strings.ReplaceAll(name, " ", "-")))
			id := n.run(pod, containerConfig("c", script+"; "+cgroup+"; echo ready; sleep 1000; :", change))
			n.ready(id)
			own := strings.TrimSuffix(n.logged(n.status(id).LogPath, "stdout", "stderr"), "ready\n")
			if got, _ := n.exec(id, script+"; "+cgroup); got != own {
				t.Errorf("an exec sees\n%s\nthe container saw\n%s", got, own)
			}
		})
	}
}

// What holds an exec up goes away.
func TestExecLosesItsGround(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod, id := n.box("ground")
	begin := func(id string) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := n.execSync(n.ctx(), id, 0, "sleep", "999")
			done <- err
		}()
		eventually(t, 10*time.Second, "the command runs", func() error {
			if len(n.execCgroups()) == 0 {
				return fmt.Errorf("not yet")
			}
			return nil
		})
		return done
	}
	within := func(what string, done chan error) error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: the exec hangs", what)
			return nil
		}
	}
	done := begin(id)
	n.stop(id, 0)
	within("container stopped", done) // killed, or an error: both are true

	id = n.run(pod, containerConfig("second", "sleep 1000; :"))
	done = begin(id)
	n.killMonitor()
	if err := within("monitor killed", done); status.Code(err) != codes.Unavailable {
		t.Errorf("exec under a monitor that is killed: %v", err)
	}
	eventually(t, 10*time.Second, "nobody's command is ended", func() error {
		if got := n.left(id, "sleep 999"); got != "0" {
			return fmt.Errorf("%s live on", got)
		}
		return nil
	})
	done = begin(id)
	n.kill()
	if err := within("daemon killed", done); status.Code(err) != codes.Unavailable {
		t.Errorf("exec under a daemon that is killed: %v", err)
	}
	n.start()
	eventually(t, 10*time.Second, "nobody's command is ended", func() error {
		if got := n.left(id, "sleep 999"); got != "0" {
			return fmt.Errorf("%s live on", got)
		}
		return nil
	})
}

// The values of variables are bytes, in the container and in what is run in it,
// with a terminal or without.
func TestEnvironmentOfBytes(t *testing.T) {
	if standardRuntime != "berth" {
		t.Skip("OCI runtimes read JSON, which has no such bytes: they are refused")
	}
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("bytes", hostNetwork))
	const script = `printf %s "$RAW" | od -An -tx1`
	id := n.run(pod, containerConfig("c", script+"; sleep 1000; :", func(c *runtimeapi.ContainerConfig) {
		c.Envs = []*runtimeapi.KeyValue{{Key: "RAW", Value: []byte("a\xff\x01\xc3")}, {Key: "PLAIN", Value: []byte("ü\n")}}
	}))
	const printed = " 61 ff 01 c3\n"
	eventually(t, 10*time.Second, "the container has printed", func() error {
		if got := n.logged(n.path("log/bytes/c.log"), "stdout"); got != printed {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if got, _ := n.exec(id, script); got != printed {
		t.Errorf("in a command: %q", got)
	}
	n.restart()
	if got, _ := n.exec(id, script); got != printed {
		t.Errorf("in a command after a restart: %q", got)
	}
	_, err := n.rt.UpdateContainerResources(n.ctx(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: &runtimeapi.LinuxContainerResources{CpuShares: 300}})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := n.exec(id, script); got != printed {
		t.Errorf("in a command after an update: %q", got)
	}
	eachTransport(n, func(n *node, transport string) {
		s := n.shell(transport, id, want{tty: true, stdin: true}, script)
		if code := s.code(); code != 0 || s.out.String() != strings.ReplaceAll(printed, "\n", "\r\n") {
			n.t.Errorf("in a command with a terminal: %q, code %d", s.out, code)
		}
	})
}
