package e2e

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// scrape reads the page; each line without its comment is a key with a value.
func (n *node) scrape(client *http.Client, url string) map[string]float64 {
	n.t.Helper()
	r, err := client.Get(url)
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		n.t.Fatalf("%s: %v\n%s", r.Status, err, b)
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if ok {
			key += "}"
		} else if key, value, ok = strings.Cut(key, " "); !ok {
			continue
		}
		if strings.HasPrefix(key, "#") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			n.t.Errorf("metrics: %q: %v", line, err)
		}
		all[key] = v
	}
	return all
}

func TestMetricsPage(t *testing.T) {
	n := newNode(t, func(n *node) { n.config = fmt.Sprintf("[metrics]\naddress = %q\n", "unix://"+n.path("metrics.sock")) })
	n.pull(busybox)
	n.tryPull("registry.test/none:1", nil)
	pod := n.pod(n.podConfig("p"))
	id := n.run(pod, containerConfig("c", "sleep 1000; :"))
	n.run(pod, containerConfig("d", "sleep 1000; :"))
	n.stop(id, 0)
	n.rt.ContainerStatus(n.ctx(), &runtimeapi.ContainerStatusRequest{ContainerId: "none"})
	ear := n.listen()
	defer ear.end()

	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.path("metrics.sock"))
	}}}
	defer client.CloseIdleConnections()
	got := n.scrape(client, "http://unix/metrics")
	for key, want := range map[string]float64{
		`berth_rpc_duration_seconds_count{code="OK",method="RunPodSandbox"}`:         1,
		`berth_rpc_duration_seconds_count{code="OK",method="StartContainer"}`:        2,
		`berth_rpc_duration_seconds_count{code="NotFound",method="ContainerStatus"}`: 1,
		`berth_rpc_in_flight`: 1, // the events
		`berth_sandbox_start_step_duration_seconds_count{step="namespaces"}`:               1,
		`berth_sandbox_start_step_duration_seconds_count{step="network"}`:                  1,
		`berth_container_start_step_duration_seconds_count{step="cgroup"}`:                 2,
		`berth_container_start_step_duration_seconds_count{step="monitor"}`:                2,
		`berth_container_start_step_duration_seconds_count{step="monitor.init"}`:           2,
		`berth_image_pull_stage_duration_seconds_count{step="resolve"}`:                    2,
		`berth_image_pull_stage_duration_seconds_count{step="layers"}`:                     1,
		`berth_image_pull_duration_seconds_count{result="ok"}`:                             1,
		`berth_image_pull_failures_total{kind="not_found"}`:                                1,
		`berth_pods{state="ready"}`:                                                        1,
		`berth_containers{state="running"}`:                                                1,
		`berth_containers{state="exited"}`:                                                 1,
		`berth_images`:                                                                     1,
		`berth_image_layers`:                                                               1,
		`berth_monitor_up`:                                                                 1,
		`berth_monitor_spawned_total`:                                                      1,
		`berth_monitor_lost_total`:                                                         0,
		`berth_events_listeners`:                                                           1,
		`berth_events_dropped_listeners_total`:                                             0,
		`berth_rpc_duration_seconds_count{code="OK",method="GetContainerEvents"} is there`: 0,
	} {
		if v, ok := got[key]; v != want || !ok && !strings.HasSuffix(key, "is there") {
			t.Errorf("%s is %v (%t), want %v", key, v, ok, want)
		}
	}
	for _, key := range []string{"berth_image_store_bytes", "berth_image_pull_downloaded_bytes_total", "berth_image_pull_unpacked_bytes_total", "go_goroutines", "process_resident_memory_bytes"} {
		if got[key] <= 0 {
			t.Errorf("%s is %v", key, got[key])
		}
	}
	if !slices.ContainsFunc(keys(got), func(k string) bool { return strings.HasPrefix(k, `berth_build_info{go="go`) }) {
		t.Error("no berth_build_info")
	}
	n.dashboard(got)

	n.killMonitor()
	eventually(t, 10*time.Second, "the monitor's replacement is counted", func() error {
		got := n.scrape(client, "http://unix/metrics")
		if got["berth_monitor_up"] != 1 || got["berth_monitor_lost_total"] != 1 || got["berth_monitor_spawned_total"] != 2 || got["berth_monitor_adopted_containers_total"] != 1 {
			return fmt.Errorf("%v %v %v %v", got["berth_monitor_up"], got["berth_monitor_lost_total"], got["berth_monitor_spawned_total"], got["berth_monitor_adopted_containers_total"])
		}
		return nil
	})
	if info, err := os.Stat(n.path("metrics.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

func keys(m map[string]float64) (all []string) {
	for k := range m {
		all = append(all, k)
	}
	return all
}

// dashboard checks that every metric of the dashboard's queries exists, and every
// one that docs/operate.md names in full.
func (n *node) dashboard(got map[string]float64) {
	n.t.Helper()
	if !exists("../../go.mod") {
		n.t.Log("no source on this machine: the dashboard is not checked")
		return
	}
	b, err := os.ReadFile("../../docs/grafana/berth.json")
	if err != nil {
		n.t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		n.t.Fatal(err)
	}
	b = append(b, text...)
	have := map[string]bool{}
	for k := range got {
		name, _, _ := strings.Cut(k, "{")
		have[name] = true
	}
	used := regexp.MustCompile(`\b(?:berth|go|process)_[a-z_]*[a-z]\b`).FindAllString(string(b), -1)
	if len(used) < 10 {
		n.t.Errorf("only %d metrics in the dashboard", len(used))
	}
	for _, name := range used {
		if !have[name] && !have[name+"_count"] {
			n.t.Errorf("the dashboard or docs/operate.md asks for %s, which there is not", name)
		}
	}
}

func TestMetricsAddressOfTCP(t *testing.T) {
	n := newNode(t, func(n *node) { n.config = "[metrics]\naddress = \"127.0.0.1:0\"\n" })
	var m []string
	eventually(t, 10*time.Second, "the log says where", func() error {
		if m = regexp.MustCompile(`msg="serving metrics" address=(\S+)`).FindStringSubmatch(n.log.String()); m == nil {
			return errors.New("not yet")
		}
		return nil
	})
	if got := n.scrape(http.DefaultClient, "http://"+m[1]+"/metrics"); got["berth_monitor_up"] != 1 {
		t.Errorf("%v", got)
	}
	http.DefaultClient.CloseIdleConnections()
}

// receiver is a collector of traces.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*tracepb.Span
}

func (r *receiver) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range in.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			r.spans = append(r.spans, ss.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	var in collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(b, &in)
	}
	if err != nil || req.URL.Path != "/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.Export(req.Context(), &in)
}

// tree draws the spans of a trace below a span of the client.
func (r *receiver) tree(trace, parent []byte, indent string) (drawn string) {
	r.mu.Lock()
	var children []*tracepb.Span
	for _, s := range r.spans {
		if string(s.TraceId) == string(trace) && string(s.ParentSpanId) == string(parent) {
			children = append(children, s)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(children, func(a, b *tracepb.Span) int {
		if a.StartTimeUnixNano != b.StartTimeUnixNano {
			return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano))
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, s := range children {
		name := s.Name
		for _, a := range s.Attributes {
			if a.Key == "cni.plugin" {
				name += " " + a.Value.GetStringValue()
			}
		}
		drawn += indent + name + "\n" + r.tree(trace, s.SpanId, indent+"  ")
	}
	return drawn
}

func TestTraces(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			r := &receiver{}
			if protocol == "grpc" {
				s := grpc.NewServer()
				collector.RegisterTraceServiceServer(s, r)
				go s.Serve(l)
				t.Cleanup(s.Stop)
			} else {
				s := &http.Server{Handler: r}
				go s.Serve(l)
				t.Cleanup(func() { s.Close() })
			}
			n := newNode(t, func(n *node) {
				n.env = append(n.env, "OTEL_BSP_SCHEDULE_DELAY=100")
				n.config = fmt.Sprintf("[tracing]\nendpoint = %q\nprotocol = %q\ninsecure = true\nsampling_ratio = 0.0\n", l.Addr(), protocol)
			})
			n.traces(r)
		})
	}
}

func (n *node) traces(r *receiver) {
	parent := func(i byte) (ctx context.Context, trace, span []byte) {
		trace, span = make([]byte, 16), make([]byte, 8)
		trace[0], trace[15], span[0] = 0xbe, i, i
		// As the kubelet sends it (W3C trace context).
		return metadata.AppendToOutgoingContext(n.ctx(), "traceparent", "00-"+hex.EncodeToString(trace)+"-"+hex.EncodeToString(span)+"-01"), trace, span
	}
	want := func(what string, trace, span []byte, tree string) {
		n.t.Helper()
		eventually(n.t, 10*time.Second, "the spans of "+what, func() error {
			if got := r.tree(trace, span, ""); got != tree {
				return fmt.Errorf("got\n%swant\n%s", got, tree)
			}
			return nil
		})
	}
	ctx, trace, span := parent(1)
	if _, err := n.images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: busybox}}); err != nil {
		n.t.Fatal(err)
	}
	want("PullImage", trace, span, `runtime.v1.ImageService/PullImage
  resolve
  read
  layers
    layer
  record
`)
	ctx, trace, span = parent(2)
	cfg := n.podConfig("traced")
	pod, err := n.rt.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg})
	if err != nil {
		n.t.Fatal(err)
	}
	want("RunPodSandbox", trace, span, `runtime.v1.RuntimeService/RunPodSandbox
  labels
  namespaces
  reaper
  network
    cni plugin bridge
    cni plugin portmap
    cni plugin bandwidth
  files
`)
	id, err := n.create(pod.PodSandboxId, containerConfig("c", "sleep 1000; :"))
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, trace, span = parent(3)
	if _, err := n.rt.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		n.t.Fatal(err)
	}
	want("StartContainer", trace, span, `runtime.v1.RuntimeService/StartContainer
  pipes
  cgroup
  monitor
    monitor.prepare
    monitor.init
`)
	// The log leads to the trace.
	bad := containerConfig("bad", "true")
	bad.Command = []string{"/no/such"}
	failing, err := n.create(pod.PodSandboxId, bad)
	if err == nil {
		ctx, trace, _ = parent(4)
		if _, err := n.rt.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: failing}); err == nil {
			n.t.Fatal("it started")
		}
		id := "trace_id=" + hex.EncodeToString(trace)
		eventually(n.t, 5*time.Second, "the daemon's log leads to the trace", func() error {
			if !strings.Contains(n.log.String(), id) {
				return fmt.Errorf("no %s", id)
			}
			return nil
		})
		eventually(n.t, 5*time.Second, "the monitor's log leads to the trace", func() error {
			b, err := os.ReadFile(n.path("state/monitor.log"))
			if err != nil || !strings.Contains(string(b), id) {
				return fmt.Errorf("%v: %s", err, b)
			}
			return nil
		})
	}
	// Whom nobody asked to trace is not.
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if s.TraceId[0] != 0xbe {
			n.t.Errorf("a span of %s that no client asked for", s.Name)
		}
	}
}
