package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berth-cri/berth/imageservice/registry/registrytest"
)

func TestPullCommand(t *testing.T) {
	n := newNode(t)
	r := n.operate("pull", busybox)
	if ok, _ := regexp.MatchString(`^sha256:[0-9a-f]{64}\n$`, r.out); !ok || r.code != 0 || !strings.Contains(r.err, "layer 1 of 1: ") || !strings.Contains(r.err, "downloaded") {
		t.Errorf("%+v", r)
	}
	if got := n.image(busybox).GetId(); got+"\n" != r.out {
		t.Errorf("the image is %s", got)
	}
	// The same layers under another config.
	if r := n.operate("pull", users); !strings.Contains(r.err, "layer 1 of 1: is here already") {
		t.Errorf("%+v", r)
	}
	if r := n.operate("pull", "-q", busybox); r.err != "" || r.code != 0 {
		t.Errorf("quiet: %+v", r)
	}
	explained := n.operate("pull", "--explain", "mirrored.test/busybox:1")
	wantTable(t, result{out: explained.out, code: explained.code}, "ENDPOINT|REQUEST|CREDENTIAL|TOOK|ANSWER",
		`mirror http://127.0.0.1:\d+\s+GET manifests/1\s+anonymous\s+\S+\s+ok`, `sha256:[0-9a-f]{64}`)
	// The trail is there of a failure too.
	for name, tc := range map[string]struct{ image, trail, err string }{
		"no such tag":   {"registry.test/busybox:none", `GET manifests/none .* 404`, "404"},
		"nobody at all": {"localhost:1/a:1", `GET manifests/1 .* refused`, "refused"},
	} {
		r := n.operate("pull", "--explain", tc.image)
		if ok, _ := regexp.MatchString(tc.trail, r.out); !ok || r.code != 1 || !strings.Contains(r.err, tc.err) || strings.Contains(r.err, "rpc error") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	var doc struct {
		ImageID, Error string
		Trail          []struct{ Request string }
	}
	if r := n.operate("pull", "-q", "-o", "json", "registry.test/none:1"); json.Unmarshal([]byte(r.out), &doc) != nil || doc.Error == "" || len(doc.Trail) == 0 || r.code != 1 {
		t.Errorf("%+v", r)
	}
	if r := n.operate("pull", "Not A Name"); r.code != 1 || !strings.Contains(r.err, "Not A Name") {
		t.Errorf("%+v", r)
	}
}

// A client that goes away takes its pull with it; one that does not read does
// not hold the pull up.
func TestPullCommandThatIsLeft(t *testing.T) {
	n := newNode(t)
	srv := n.registryAt("slow.test")
	layer := registrytest.Gzip(t, map[string]string{"f": strings.Repeat("x", 1<<16)})
	srv.Push(t, "a/b:1", registrytest.Image(t, layer))
	d, _ := layer.Digest()
	asked, release := make(chan struct{}, 8), make(chan struct{})
	srv.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, d.String()) {
			return false
		}
		asked <- struct{}{}
		select {
		case <-release:
			return false
		case <-r.Context().Done():
			return true
		}
	})
	cmd := n.command("pull", "slow.test/a/b:1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, 10*time.Second, "the pull has ended", func() error {
		if !strings.Contains(n.log.String(), "image is not pulled") {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	close(release)
	if r := n.operate("pull", "slow.test/a/b:1"); r.code != 0 {
		t.Errorf("again: %+v", r)
	}
}

func TestPullCommandWithAPassword(t *testing.T) {
	n := newNode(t)
	srv := n.registryAt("private.test")
	srv.Push(t, "a/b:1", registrytest.Image(t, registrytest.Gzip(t, map[string]string{"f": "x"})))
	srv.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); user == "robot" && password == "s3cret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	if r := n.operate("pull", "private.test/a/b:1"); r.code != 1 || !strings.Contains(r.err, "401") {
		t.Errorf("without: %+v", r)
	}
	cmd := n.command("pull", "--explain", "-u", "robot", "--password-stdin", "private.test/a/b:1")
	cmd.Stdin = strings.NewReader("s3cret\n")
	r := runCommand(t, cmd)
	if r.code != 0 || strings.Contains(r.out+r.err+n.log.String(), "s3cret") {
		t.Errorf("with: %+v", r)
	}
}

func TestPullCommandOnATerminal(t *testing.T) {
	n := newNode(t)
	srv := n.registryAt("bars.test")
	var layers []registrytest.Layer
	for i := range 3 {
		layers = append(layers, registrytest.Gzip(t, map[string]string{"f": strings.Repeat(fmt.Sprint(i), 1000)}))
	}
	srv.Push(t, "a/b:1", registrytest.Image(t, toLayers(layers)...))
	release := make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	t.Cleanup(let)
	last, _ := layers[2].Digest()
	srv.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, last.String()) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return false
	})
	master, slave := openTerminal(t)
	cmd := n.command("pull", "bars.test/a/b:1")
	cmd.Stderr = slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	screen := &lockedBuffer{}
	copied := make(chan struct{})
	go func() { io.Copy(screen, master); close(copied) }()
	eventually(t, 10*time.Second, "bars", func() error {
		s := screen.String()
		if !strings.Contains(s, "unpacking") || !strings.Contains(s, "done, ") || !strings.Contains(s, "[     ") {
			return fmt.Errorf("%q", s)
		}
		return nil
	})
	let()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	master.Close()
	<-copied
	// The bars are drawn over.
	if s := screen.String(); !strings.Contains(s, "\x1b[4A") || !strings.Contains(s, " unpacked in ") {
		t.Errorf("%q", screen.String())
	}
}

func toLayers(in []registrytest.Layer) (out []v1.Layer) {
	for _, l := range in {
		out = append(out, l)
	}
	return out
}

func TestDfCommand(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	n.pull(users)
	n.pull(linked)
	pod := n.pod(n.podConfig("p"))
	id := n.run(pod, containerConfig("c", "dd if=/dev/zero of=/file bs=1048576 count=3 2>/dev/null; echo ready; sleep 1000; :"))
	n.ready(id)
	r := n.operate("df")
	wantTable(t, r, "WHAT|COUNT|IN USE|SIZE|RECLAIMABLE", `Images\s+3\s+1\s+\S+\s+\S+`, `Layers\s+2\s+2\s+\S+\s+\S+`, `Writable layers\s+1\s+1\s+\S+iB\s+0B`, `Logs\s+1\s+1\s+[1-9]\S*\s+-`)
	var d struct {
		Images []struct {
			Names                []string
			Size, Shared, Unique int64
			Containers           int
		}
		Layers     struct{ Size, Reclaimable int64 }
		Containers []struct {
			Name          string
			Writable, Log int64
		}
	}
	r = n.operate("df", "-o", "json")
	if err := json.Unmarshal([]byte(r.out), &d); err != nil || len(d.Images) != 3 || len(d.Containers) != 1 {
		t.Fatalf("%v: %+v", err, r)
	}
	var unique, shared int64
	for _, i := range d.Images {
		if i.Shared+i.Unique != i.Size || i.Shared == 0 {
			t.Errorf("%+v", i)
		}
		shared, unique = i.Shared, unique+i.Unique
	}
	if sum := shared + unique; d.Layers.Size > sum || sum-d.Layers.Size > 32<<10 { // manifests and configs
		t.Errorf("%d shared, %d unique, %d in all", shared, unique, d.Layers.Size)
	}
	if c := d.Containers[0]; c.Name != "c" || c.Log == 0 {
		t.Errorf("%+v", c)
	}
	eventually(t, 20*time.Second, "what the container wrote", func() error { // walked at most every 10 s
		r := n.operate("df", "-o", "json")
		if err := json.Unmarshal([]byte(r.out), &d); err != nil || d.Containers[0].Writable < 3<<20 {
			return fmt.Errorf("%v, %d", err, d.Containers[0].Writable)
		}
		return nil
	})
	if r := n.operate("df", "-v"); r.code != 0 || !strings.Contains(r.out, "UNIQUE") || !strings.Contains(r.out, "registry.test/linked:1") {
		t.Errorf("%+v", r)
	}
}
