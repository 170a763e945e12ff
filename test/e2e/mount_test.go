package e2e

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// hostMount makes a tmpfs of the host and says who sees what is mounted below it.
func (n *node) hostMount(name string, propagation uintptr) string {
	n.t.Helper()
	dir := n.path(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	mount(n.t, "e2e", dir, "tmpfs", 0, "size=4m")
	mount(n.t, "", dir, "", propagation, "")
	n.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func (n *node) privateMount(name string) string { return n.hostMount(name, unix.MS_PRIVATE) }

func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Fatalf("mount %s on %s: %v", source, target, err)
	}
}

func mounted(mounts ...*runtimeapi.Mount) func(*runtimeapi.ContainerConfig) {
	return func(c *runtimeapi.ContainerConfig) { c.Mounts = mounts }
}

func TestMounts(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	n.pull(linked)
	pod := n.pod(n.podConfig("mounts", hostNetwork))
	n.write("src/file", "from the host\n")
	n.write("src/new", "")
	n.write("src/sub/deep", "deep\n")
	src := n.path("src")
	command("ln", "-s", src, n.path("link"))
	command("ln", "-s", "src/file", n.path("filelink"))
	with := func(container string, change ...func(*runtimeapi.Mount)) func(*runtimeapi.ContainerConfig) {
		m := &runtimeapi.Mount{HostPath: src, ContainerPath: container}
		for _, f := range change {
			f(m)
		}
		return mounted(m)
	}
	readonly := func(m *runtimeapi.Mount) { m.Readonly = true }
	from := func(path string) func(*runtimeapi.Mount) { return func(m *runtimeapi.Mount) { m.HostPath = path } }
	image := func(ref string, also func(*runtimeapi.ContainerConfig)) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) {
			c.Image.Image = ref
			also(c)
		}
	}
	cases := map[string]printed{
		"a directory":             {with("/data"), "cat /data/file; echo new >/data/new && cat /data/new", "from the host\nnew\n"},
		"read-only":               {with("/data", readonly), "cat /data/file; touch /data/x 2>/dev/null || echo no", "from the host\nno\n"},
		"a file":                  {with("/etc/conf/app.conf", from(src+"/file")), "cat /etc/conf/app.conf", "from the host\n"},
		"a file over a file":      {with("/etc/passwd", from(src+"/file"), readonly), "cat /etc/passwd; echo x 2>/dev/null >>/etc/passwd || echo no", "from the host\nno\n"},
		"a file through a link":   {with("/f", from(n.path("filelink"))), "cat /f", "from the host\n"},
		"a directory through one": {with("/d", from(n.path("link"))), "cat /d/sub/deep", "deep\n"},
		"a deep place":            {with("/a/b/c/d"), "cat /a/b/c/d/file", "from the host\n"},
		"a place with dots":       {with("/a//b/../c/"), "cat /a/c/file", "from the host\n"},
		"over one of the image":   {with("/bin/../tmp"), "ls /tmp | tr '\\n' ' '", "file new sub "},
		"over hosts":              {with("/etc/hosts", from(src+"/file")), "cat /etc/hosts", "from the host\n"},
		"over resolv.conf":        {with("/etc/resolv.conf", from(src+"/file"), readonly), "cat /etc/resolv.conf", "from the host\n"},
		"over shm":                {with("/dev/shm"), "cat /dev/shm/file", "from the host\n"},
		"below dev":               {with("/dev/data"), "cat /dev/data/file; echo x >/dev/null", "from the host\n"},
		"over etc, with hosts":    {with("/etc", from(src+"/sub")), "cat /etc/deep; test -s /etc/hosts && echo hosts", "deep\nhosts\n"},
		"twice, one below the other, in any order": {mounted(
			&runtimeapi.Mount{HostPath: src + "/sub", ContainerPath: "/m/inner"},
			&runtimeapi.Mount{HostPath: n.path("outer"), ContainerPath: "/m"},
		), "cat /m/inner/deep", "deep\n"},
		"missing is made": {with("/data", from(n.path("made/by/berth"))), "ls -A /data | wc -l; stat -c %a /data", "0\n755\n"},
		"with a read-only root": {func(c *runtimeapi.ContainerConfig) {
			with("/new/place")(c)
			c.Linux.SecurityContext.ReadonlyRootfs = true
		}, "cat /new/place/file; touch /data/y 2>/dev/null || echo no", "from the host\nno\n"},
		"of a user":                    {func(c *runtimeapi.ContainerConfig) { with("/data")(c); asUser(1000)(c) }, "cat /data/file; touch /data/y 2>/dev/null || echo no", "from the host\nno\n"},
		"set-uid and devices are kept": {with("/data"), "awk '$5==\"/data\"{print $6}' /proc/self/mountinfo | grep -c -E 'nosuid|nodev'", "0\n"},
		// The image's links lead back into the image, however they are written.
		"a link out of the image":       {image(linked, with("/out/data")), "cat /out/data/file; readlink /out", "from the host\n/../../../.." + linkedTarget + "\n"},
		"a link as the place":           {image(linked, with("/out")), "cat /out/file", "from the host\n"},
		"a link up as the place":        {image(linked, with("/up/x/data")), "cat /up/x/data/file", "from the host\n"},
		"a working directory by a link": {func(c *runtimeapi.ContainerConfig) { c.Image.Image, c.WorkingDir = linked, "/out/w" }, "pwd -P | grep -c w", "1\n"},
	}
	if standardRuntime != "berth" {
		delete(cases, "a working directory by a link") // runc makes no directory behind a link
	}
	n.inPod(pod, cases)
	if b, err := os.ReadFile(filepath.Join(src, "new")); string(b) != "new\n" {
		t.Errorf("written through the mount: %q, %v", b, err)
	}
	if left := entries(linkedTarget); len(left) != 0 {
		t.Errorf("an image reached the host: %s has %v", linkedTarget, left)
	}

	id := n.run(pod, containerConfig("status", "sleep 1000; :", with("/data", readonly)))
	if st := n.status(id); len(st.Mounts) != 1 || st.Mounts[0].ContainerPath != "/data" || st.Mounts[0].HostPath != src || !st.Mounts[0].Readonly {
		t.Errorf("in the status: %v", st.Mounts)
	}
	// A source that goes away between create and start.
	gone := n.write("gone/file", "x")
	id, err := n.create(pod, containerConfig("gone", "true", with("/data", from(gone))))
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(gone)
	_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
	wantCode(t, "a source that is gone", err, codes.FailedPrecondition, gone, own("does not exist", "no such file or directory"))
	id, err = n.create(pod, containerConfig("proc", "true", image(linked, with("/toproc/x"))))
	if err == nil {
		_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
	}
	if err == nil || !strings.Contains(err.Error(), "/toproc/x") {
		t.Errorf("into proc through a link: %v", err)
	}
	// A directory over a file, and a file over a directory.
	for place, source := range map[string]string{"/etc/passwd": src, "/etc": src + "/file"} {
		id, err := n.create(pod, containerConfig("over"+strings.ReplaceAll(place, "/", "-"), "true", with(place, from(source))))
		if err == nil {
			_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
		}
		if err == nil || !strings.Contains(err.Error(), source) {
			t.Errorf("%s over %s: %v", source, place, err)
		}
	}
}

// linkedTarget is on the host where links of the image "linked" would lead.
var linkedTarget = filepath.Join(os.TempDir(), fmt.Sprint("berth-e2e-out-", runID))

// linkedFiles are symbolic links that try to leave the image.
func linkedFiles() []*tar.Header {
	return []*tar.Header{
		{Typeflag: tar.TypeSymlink, Name: "out", Linkname: "/../../../.." + linkedTarget},
		{Typeflag: tar.TypeSymlink, Name: "up", Linkname: "../../../../../.."},
		{Typeflag: tar.TypeSymlink, Name: "toproc", Linkname: "/proc/self"},
	}
}

// What is mounted later is seen on the other side as far as was asked for.
func TestMountPropagation(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("propagation", hostNetwork, func(c *runtimeapi.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true }))
	type propagation = runtimeapi.MountPropagation
	const private, slave, shared = runtimeapi.MountPropagation_PROPAGATION_PRIVATE, runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
	for i, tc := range []struct {
		host       uintptr
		asked      propagation
		hostSeen   bool // in the container
		theirsSeen bool // on the host
		refused    bool
	}{
		{host: unix.MS_SHARED, asked: private},
		{host: unix.MS_SHARED, asked: slave, hostSeen: true},
		{host: unix.MS_SHARED, asked: shared, hostSeen: true, theirsSeen: true},
		{host: unix.MS_PRIVATE, asked: private},
		{host: unix.MS_PRIVATE, asked: slave, refused: true},
		{host: unix.MS_PRIVATE, asked: shared, refused: true},
	} {
		name := fmt.Sprintf("%d-%s", i, strings.ToLower(strings.TrimPrefix(tc.asked.String(), "PROPAGATION_")))
		n.sub(name, func(n *node) {
			t := n.t
			dir := n.hostMount("host-"+name, tc.host)
			for _, sub := range []string{"before", "host", "theirs"} {
				if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			mount(t, "e2e", dir+"/before", "tmpfs", 0, "size=1m")
			if err := os.WriteFile(dir+"/before/x", nil, 0o644); err != nil {
				t.Fatal(err)
			}
			id, err := n.create(pod, containerConfig(name, "sleep 1000; :", mounted(&runtimeapi.Mount{HostPath: dir, ContainerPath: "/m", Propagation: tc.asked}),
				secured(func(s *securityContext) { s.Privileged = true })))
			if tc.refused {
				wantCode(t, "on a private mount", err, codes.FailedPrecondition, "mounts[0]", dir)
				return
			}
			if err == nil {
				_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
			}
			if err != nil {
				t.Fatal(err)
			}
			mount(t, "e2e", dir+"/host", "tmpfs", 0, "size=1m")
			if err := os.WriteFile(dir+"/host/x", nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if out, code := n.exec(id, "mount -t tmpfs x /m/theirs && touch /m/theirs/x"); code != 0 {
				t.Fatal(out)
			}
			if out, _ := n.exec(id, "ls /m/before"); out != "x\n" {
				t.Errorf("what was mounted before: %q", out)
			}
			out, _ := n.exec(id, "ls /m/host")
			if seen := out == "x\n"; seen != tc.hostSeen {
				t.Errorf("the host's mount is seen in the container: %t", seen)
			}
			if seen := exists(dir + "/theirs/x"); seen != tc.theirsSeen {
				t.Errorf("the container's mount is seen on the host: %t", seen)
			}
			n.stop(id, 0)
			if _, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
				t.Fatal(err)
			}
			if !exists(dir + "/before/x") {
				t.Error("the end of the container unmounted what is the host's")
			}
		})
	}
}

func TestRecursiveReadOnly(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("recursive", hostNetwork))
	dir := n.privateMount("host")
	if err := os.Mkdir(dir+"/sub", 0o777); err != nil {
		t.Fatal(err)
	}
	mount(t, "e2e", dir+"/sub", "tmpfs", 0, "size=1m")
	const try = "for d in /m /m/sub; do touch $d/x 2>/dev/null && echo yes || echo no; done"
	n.inPod(pod, map[string]printed{
		"writable":           {mounted(&runtimeapi.Mount{HostPath: dir, ContainerPath: "/m"}), try, "yes\nyes\n"},
		"read-only":          {mounted(&runtimeapi.Mount{HostPath: dir, ContainerPath: "/m", Readonly: true}), try, "no\nyes\n"},
		"recursively so":     {mounted(&runtimeapi.Mount{HostPath: dir, ContainerPath: "/m", Readonly: true, RecursiveReadOnly: true}), try, "no\nno\n"},
		"nor made writable":  {mounted(&runtimeapi.Mount{HostPath: dir, ContainerPath: "/m", Readonly: true}), "mount -o remount,rw /m 2>/dev/null || echo no", "no\n"},
		"the host stays so":  {mounted(&runtimeapi.Mount{HostPath: dir + "/sub", ContainerPath: "/m"}), "touch /m/y && echo yes", "yes\n"},
		"of a read-only one": {mounted(&runtimeapi.Mount{HostPath: n.readOnlyHostMount(), ContainerPath: "/m"}), "touch /m/y 2>/dev/null || echo no", "no\n"},
	})
}

func (n *node) readOnlyHostMount() string {
	dir := n.privateMount("readonly")
	mount(n.t, "", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	return dir
}

func TestAHundredMounts(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("many", hostNetwork))
	var mounts []*runtimeapi.Mount
	for i := range 100 {
		mounts = append(mounts, &runtimeapi.Mount{HostPath: n.path(fmt.Sprint("src/", i)), ContainerPath: fmt.Sprint("/m/", i)})
	}
	began := time.Now()
	out, st := n.output(pod, "c", "ls /m | wc -l", mounted(mounts...))
	if out != "100\n" || st.ExitCode != 0 {
		t.Errorf("%q, %v", out, st)
	}
	t.Logf("a hundred mounts took %s", time.Since(began))
}
