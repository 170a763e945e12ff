package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

// nriPlugin is a plugin in the test's own process. It writes down what it is
// told, and answers as the functions say, which may be nil.
type nriPlugin struct {
	t      *testing.T
	stub   stub.Stub
	closed chan struct{} // when the connection has ended

	sync     func() error
	runPod   func(*api.PodSandbox) error
	create   func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error)
	start    func(*api.Container) error
	update   func(*api.Container, *api.LinuxResources) ([]*api.ContainerUpdate, error)
	stop     func(*api.Container) ([]*api.ContainerUpdate, error)
	validate func(*api.ValidateContainerAdjustmentRequest) error

	mu         sync.Mutex
	calls      []string                   // guarded by mu: "StopContainer name" and the like
	pods       map[string]*api.PodSandbox // guarded by mu: as last told
	containers map[string]*api.Container
}

// patient gives plugins all the time that a busy machine takes.
func patient(n *node) { n.config += "\n[nri]\nplugin_request_timeout = \"30s\"" }

// plugin connects a plugin and waits until it is synchronized.
func (n *node) plugin(name string, change func(*nriPlugin), options ...stub.Option) *nriPlugin {
	n.t.Helper()
	p := n.join(name, change, options...)
	// The daemon counts it a moment after it has answered.
	eventually(n.t, 10*time.Second, "the plugin takes part", func() error {
		if !strings.Contains(n.log.String(), fmt.Sprintf(`plugin \"%s\" connected and synchronized`, name)) {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	return p
}

// join connects a plugin and waits until it is being synchronized.
func (n *node) join(name string, change func(*nriPlugin), options ...stub.Option) *nriPlugin {
	n.t.Helper()
	p := &nriPlugin{t: n.t, closed: make(chan struct{}), pods: map[string]*api.PodSandbox{}, containers: map[string]*api.Container{}}
	if change != nil {
		change(p)
	}
	index, base, _ := strings.Cut(name, "-")
	var once sync.Once
	var err error
	p.stub, err = stub.New(p, append([]stub.Option{
		stub.WithPluginIdx(index), stub.WithPluginName(base), stub.WithSocketPath(n.path("state/nri.sock")),
		stub.WithOnClose(func() { once.Do(func() { close(p.closed) }) }), stub.WithLogger(quiet{}),
	}, options...)...)
	if err == nil {
		err = p.stub.Start(context.Background())
	}
	if err != nil {
		n.t.Fatalf("plugin %s: %v", name, err)
	}
	n.t.Cleanup(p.stub.Stop)
	p.told("Synchronize")
	return p
}

// told waits until a call was made.
func (p *nriPlugin) told(call string) {
	p.t.Helper()
	eventually(p.t, 10*time.Second, "the plugin is told "+call, func() error {
		if all := p.all(); !slices.Contains(all, call) {
			return fmt.Errorf("it was told %q", all)
		}
		return nil
	})
}

// all calls so far.
func (p *nriPlugin) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

func (p *nriPlugin) container(name string) *api.Container {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.containers[name]
}

func (p *nriPlugin) pod(name string) *api.PodSandbox {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pods[name]
}

func (p *nriPlugin) note(call string, pod *api.PodSandbox, c *api.Container) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case c != nil:
		call += " " + c.Name
		p.containers[c.Name] = c
	case pod != nil:
		call += " " + pod.Name
	}
	if pod != nil {
		p.pods[pod.Name] = pod
	}
	p.calls = append(p.calls, call)
}

func (p *nriPlugin) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	p.mu.Lock()
	for _, pod := range pods {
		p.pods[pod.Name] = pod
	}
	for _, c := range containers {
		p.containers[c.Name] = c
	}
	p.mu.Unlock()
	p.note("Synchronize", nil, nil)
	if p.sync != nil {
		return nil, p.sync()
	}
	return nil, nil
}

func (p *nriPlugin) RunPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	p.note("RunPodSandbox", pod, nil)
	if p.runPod != nil {
		return p.runPod(pod)
	}
	return nil
}

func (p *nriPlugin) UpdatePodSandbox(_ context.Context, pod *api.PodSandbox, overhead, sum *api.LinuxResources) error {
	p.note(fmt.Sprintf("UpdatePodSandbox %d+%d", overhead.GetMemory().GetLimit().GetValue(), sum.GetMemory().GetLimit().GetValue()), pod, nil)
	return nil
}

func (p *nriPlugin) PostUpdatePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	p.note("PostUpdatePodSandbox", pod, nil)
	return nil
}

func (p *nriPlugin) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	p.note("StopPodSandbox", pod, nil)
	return nil
}

func (p *nriPlugin) RemovePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	p.note("RemovePodSandbox", pod, nil)
	return nil
}

func (p *nriPlugin) CreateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	p.note("CreateContainer", pod, c)
	if p.create != nil {
		return p.create(pod, c)
	}
	return nil, nil, nil
}

func (p *nriPlugin) PostCreateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	p.note("PostCreateContainer", pod, c)
	return nil
}

func (p *nriPlugin) StartContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	p.note("StartContainer", pod, c)
	if p.start != nil {
		return p.start(c)
	}
	return nil
}

func (p *nriPlugin) PostStartContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	p.note("PostStartContainer", pod, c)
	return nil
}

func (p *nriPlugin) UpdateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container, r *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	p.note("UpdateContainer", pod, c)
	if p.update != nil {
		return p.update(c, r)
	}
	return nil, nil
}

func (p *nriPlugin) PostUpdateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	p.note("PostUpdateContainer", pod, c)
	return nil
}

func (p *nriPlugin) StopContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	p.note("StopContainer", pod, c)
	if p.stop != nil {
		return p.stop(c)
	}
	return nil, nil
}

func (p *nriPlugin) RemoveContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) error {
	p.note("RemoveContainer", pod, c)
	return nil
}

func (p *nriPlugin) ValidateContainerAdjustment(_ context.Context, r *api.ValidateContainerAdjustmentRequest) error {
	if p.validate != nil {
		return p.validate(r)
	}
	return nil
}

// quiet is a log for nobody.
type quiet struct{}

func (quiet) Debugf(context.Context, string, ...any) {}
func (quiet) Infof(context.Context, string, ...any)  {}
func (quiet) Warnf(context.Context, string, ...any)  {}
func (quiet) Errorf(context.Context, string, ...any) {}

// pluginProgram is set in a plugin that a daemon has started: this very program,
// by a link called NN-NAME.
func pluginProgram() bool { return os.Getenv(api.PluginNameEnvVar) != "" }

// runPluginProgram appends what it is told to the file that its configuration
// names, until the daemon ends.
func runPluginProgram() int {
	done := make(chan struct{})
	p := &programPlugin{}
	s, err := stub.New(p, stub.WithOnClose(func() { close(done) }), stub.WithLogger(quiet{}))
	if err == nil {
		err = s.Start(context.Background())
	}
	if err != nil {
		return 1
	}
	<-done
	p.write("closed")
	return 0
}

type programPlugin struct{ file string }

func (p *programPlugin) write(line string) {
	f, err := os.OpenFile(p.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		fmt.Fprintln(f, line)
		f.Close()
	}
}

func (p *programPlugin) Configure(_ context.Context, config, runtime, _ string) (api.EventMask, error) {
	p.file = strings.TrimSpace(config)
	p.write(fmt.Sprintf("%s-%s of %s", os.Getenv(api.PluginIdxEnvVar), os.Getenv(api.PluginNameEnvVar), runtime))
	return api.ParseEventMask("CreateContainer,StopContainer")
}

func (p *programPlugin) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	p.write(fmt.Sprintf("%d pods, %d containers", len(pods), len(containers)))
	return nil, nil
}

func (p *programPlugin) CreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	p.write("create " + c.Name)
	a := &api.ContainerAdjustment{}
	a.AddEnv("FROM_"+os.Getenv(api.PluginNameEnvVar), "yes")
	return a, nil, nil
}

func (p *programPlugin) StopContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	p.write("stop " + c.Name)
	return nil, nil
}
