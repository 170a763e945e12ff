package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// rpcTimeout is the kubelet's own for most calls.
	rpcTimeout = 2 * time.Minute
	// label marks the pods of all benches, so that one cleans up after another
	// that was killed.
	label = "berth-bench"
	// Larger than any runtime's own bound, CRI-O's 80 MiB.
	maxMessage = 128 << 20
)

// subject is one runtime under load.
type subject struct {
	*options
	name    string
	socket  string
	helpers *regexp.Regexp // of its own processes, beside the known ones

	conn    *grpc.ClientConn
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient

	logs   string // directory of the pods' logs
	serial atomic.Int64
}

func newSubject(name, socket string, o *options) (*subject, error) {
	s := &subject{options: o, name: name, socket: strings.TrimPrefix(socket, "unix://"), helpers: o.processes[name]}
	if err := s.dial(); err != nil {
		return nil, err
	}
	var err error
	if s.logs, err = os.MkdirTemp("", "berth-bench-"); err != nil {
		s.conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *subject) dial() error {
	conn, err := grpc.NewClient("unix://"+s.socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.conn, s.runtime, s.images = conn, cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
	return nil
}

func (s *subject) close() {
	s.conn.Close()
	os.RemoveAll(s.logs)
}

// errorf names the runtime and the step.
func (s *subject) errorf(step string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", s.name, step, err)
}

// prepare checks the runtime, clears what a killed bench left and pulls the
// image.
func (s *subject) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	v, err := s.runtime.Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return s.errorf("Version", err)
	}
	progress("%s is %s %s", s.name, v.RuntimeName, v.RuntimeVersion)
	if err := s.cleanUp(ctx); err != nil {
		return err
	}
	spec := &cri.ImageSpec{Image: s.image}
	have, err := s.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: spec})
	if err != nil {
		return s.errorf("ImageStatus", err)
	}
	if have.Image == nil {
		if _, err := s.images.PullImage(ctx, &cri.PullImageRequest{Image: spec}); err != nil {
			return s.errorf("PullImage "+s.image, err)
		}
	}
	for range s.warmup {
		p, err := s.start(ctx)
		if err == nil {
			err = s.remove(ctx, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pod is a pod with one container, and how long its steps took.
type pod struct {
	id, container                string
	runTime, createTime, started time.Duration
}

func (p *pod) total() time.Duration { return p.runTime + p.createTime + p.started }

// start brings up one pod with one container, as the kubelet does. What is up
// when it fails is left for cleanUp.
func (s *subject) start(ctx context.Context) (*pod, error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	sandbox := s.sandboxConfig()
	if err := os.MkdirAll(sandbox.LogDirectory, 0o755); err != nil {
		return nil, err
	}
	p := &pod{}
	begin := time.Now()
	run, err := s.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: sandbox, RuntimeHandler: s.handler})
	if err != nil {
		return nil, s.errorf("RunPodSandbox", err)
	}
	p.id, p.runTime = run.PodSandboxId, time.Since(begin)

	begin = time.Now()
	create, err := s.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: p.id, Config: s.containerConfig(), SandboxConfig: sandbox,
	})
	if err != nil {
		return nil, s.errorf("CreateContainer", err)
	}
	p.container, p.createTime = create.ContainerId, time.Since(begin)

	begin = time.Now()
	if _, err = s.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: p.container}); err != nil {
		return nil, s.errorf("StartContainer", err)
	}
	p.started = time.Since(begin)
	return p, nil
}

func (s *subject) sandboxConfig() *cri.PodSandboxConfig {
	name := fmt.Sprintf("bench-%d-%d", os.Getpid(), s.serial.Add(1))
	network := cri.NamespaceMode_POD
	if s.hostNetwork {
		network = cri.NamespaceMode_NODE
	}
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "bench", Uid: name},
		LogDirectory: filepath.Join(s.logs, name),
		Labels:       map[string]string{label: "true"},
		DnsConfig:    &cri.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"bench.svc.cluster.local"}, Options: []string{"ndots:5"}},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: s.cgroupParent,
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: network, Pid: cri.NamespaceMode_CONTAINER},
			},
		},
	}
	if !s.hostNetwork {
		config.Hostname = name
	}
	return config
}

func (s *subject) containerConfig() *cri.ContainerConfig {
	network := cri.NamespaceMode_POD
	if s.hostNetwork {
		network = cri.NamespaceMode_NODE
	}
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "main"},
		Image:    &cri.ImageSpec{Image: s.image},
		Command:  s.command[:1],
		Args:     s.command[1:],
		LogPath:  "main/0.log",
		Labels:   map[string]string{label: "true"},
		Linux: &cri.LinuxContainerConfig{
			// Of a best-effort pod.
			Resources: &cri.LinuxContainerResources{CpuShares: 2, OomScoreAdj: 1000},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: network, Pid: cri.NamespaceMode_CONTAINER},
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			},
		},
	}
}

// remove stops and removes a pod.
func (s *subject) remove(ctx context.Context, p *pod) error {
	return s.removeID(ctx, p.id)
}

func (s *subject) removeID(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	if _, err := s.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return s.errorf("StopPodSandbox", err)
	}
	_, err := s.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return s.errorf("RemovePodSandbox", err)
}

// cleanUp removes every pod of a bench.
func (s *subject) cleanUp(ctx context.Context) error {
	list, err := s.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{
		Filter: &cri.PodSandboxFilter{LabelSelector: map[string]string{label: "true"}},
	})
	if err != nil {
		return s.errorf("ListPodSandbox", err)
	}
	var problems []error
	for _, p := range list.Items {
		problems = append(problems, s.removeID(ctx, p.Id))
	}
	return errors.Join(problems...)
}

// exec runs true in a container.
func (s *subject) exec(ctx context.Context, container string) error {
	r, err := s.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: container, Cmd: []string{"true"}, Timeout: 60})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("true exits with %d: %s", r.ExitCode, r.Stderr)
	}
	return s.errorf("ExecSync", err)
}

// absent says that the runtime does not have a call at all, which is a figure
// too.
func absent(err error) bool { return status.Code(err) == codes.Unimplemented }
