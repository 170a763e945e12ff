package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/cni/builtin"
	"github.com/berth-cri/berth/config"
	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci/external"
)

const (
	cleanupStart   = 2 * time.Minute // for a daemon to take up a full node
	cleanupMonitor = 40 * time.Second
	cleanupLinks   = 10 * time.Second
	cleanupBeside  = 8 // pods at a time
)

func cleanupCommand() *cobra.Command {
	var s settings
	var grace time.Duration
	var yes bool
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "End every pod of this node and all processes of Berth, before it is removed",
		Long: `Stop and remove every pod, end the monitor, and take away the state directory's
records and the rules and the bridge of the built-in plugins that nobody uses any
more. Images and the configuration stay. This is what removing the package does.

The daemon must not run: stop it first. Without --yes it only says which pods
there are.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := s.load(cmd.Flags())
			if err != nil {
				return err
			}
			c := &cleanup{cmd: cmd, cfg: cfg, grace: grace, yes: yes}
			if _, err := os.Stat(filepath.Join(cfg.State, "monitor.json")); errors.Is(err, os.ErrNotExist) {
				return c.rest() // nothing ever ran since the machine was booted
			}
			return c.run(given(cmd.Flags()))
		},
	}
	s.register(cmd.Flags())
	cmd.Flags().DurationVar(&grace, "grace", 30*time.Second, "what containers get between their stop signal and SIGKILL")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

// given are the flags of serve as they were typed.
func given(f *pflag.FlagSet) (args []string) {
	f.Visit(func(flag *pflag.Flag) {
		switch v, isList := flag.Value.(pflag.SliceValue); {
		case flag.Name == "grace" || flag.Name == "yes" || flag.Name == "listen":
		case isList:
			for _, one := range v.GetSlice() {
				args = append(args, "--"+flag.Name+"="+one)
			}
		default:
			args = append(args, "--"+flag.Name+"="+flag.Value.String())
		}
	})
	return args
}

type cleanup struct {
	cmd   *cobra.Command
	cfg   *config.Config
	grace time.Duration
	yes   bool
}

// run lets a daemon of its own do it, on a socket that no kubelet knows.
func (c *cleanup) run(flags []string) error {
	socket := filepath.Join(c.cfg.State, "cleanup.sock")
	ctx, cancel := context.WithCancel(c.cmd.Context())
	defer cancel()
	daemon := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"serve", "--listen", socket, "--log-level", "warn"}, flags...)...)
	daemon.Stderr = c.cmd.ErrOrStderr()
	daemon.Cancel = func() error { return daemon.Process.Signal(unix.SIGTERM) }
	daemon.WaitDelay = time.Minute
	if err := daemon.Start(); err != nil {
		return fmt.Errorf("start a daemon: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer cancel() // one that cannot start says why by itself
		_ = daemon.Wait()
	}()
	err := c.pods(ctx, socket)
	cancel()
	<-ended
	if err != nil || !c.yes {
		return err
	}
	if err := c.monitor(); err != nil {
		return err
	}
	return c.rest()
}

// pods ends every pod.
func (c *cleanup) pods(ctx context.Context, socket string) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(int(c.cfg.GRPC.MaxSendMessageSize))))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := runtimeapi.NewRuntimeServiceClient(conn)
	if err := untilServing(ctx, client); err != nil {
		return err
	}
	list, err := client.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var all errgroup.Group
	all.SetLimit(cleanupBeside)
	var failed []error
	results := make(chan error, len(list.Items))
	for _, p := range list.Items {
		fmt.Fprintf(c.cmd.OutOrStdout(), "%s/%s (%s)\n", p.Metadata.GetNamespace(), p.Metadata.GetName(), p.Id)
		if !c.yes {
			continue
		}
		all.Go(func() error { results <- c.end(ctx, client, p.Id); return nil })
	}
	_ = all.Wait()
	close(results)
	for err := range results {
		failed = append(failed, err)
	}
	if !c.yes && len(list.Items) > 0 {
		fmt.Fprintln(c.cmd.OutOrStdout(), "Nothing was done: --yes ends these pods.")
	}
	return errors.Join(failed...)
}

// untilServing waits while the daemon takes up what there is.
func untilServing(ctx context.Context, client runtimeapi.RuntimeServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupStart)
	defer cancel()
	for {
		_, err := client.Version(ctx, &runtimeapi.VersionRequest{})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not serve: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// end is what the kubelet does with a pod.
func (c *cleanup) end(ctx context.Context, client runtimeapi.RuntimeServiceClient, pod string) error {
	list, err := client.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: pod}})
	if err != nil {
		return fmt.Errorf("list containers of pod %s: %w", pod, err)
	}
	var stops errgroup.Group
	for _, one := range list.Containers {
		stops.Go(func() error {
			_, err := client.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: one.Id, Timeout: int64(c.grace.Seconds())})
			return err
		})
	}
	err = stops.Wait()
	if err == nil {
		_, err = client.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod})
	}
	if err == nil {
		_, err = client.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod})
	}
	if err != nil {
		return fmt.Errorf("end pod %s: %w", pod, err)
	}
	return nil
}

// monitor ends the monitor. Its store goes by itself, as it holds nothing.
func (c *cleanup) monitor() error {
	var m struct {
		Pid       int    `json:"pid"`
		StartTime uint64 `json:"startTime"`
	}
	if err := atomicfile.ReadJSON(filepath.Join(c.cfg.State, "monitor.json"), &m); err != nil {
		return fmt.Errorf("find the monitor: %w", err)
	}
	if linux.Alive(m.Pid, m.StartTime) {
		if err := unix.Kill(m.Pid, unix.SIGTERM); err != nil {
			return fmt.Errorf("end the monitor: %w", err)
		}
	}
	for end := time.Now().Add(cleanupMonitor); ; time.Sleep(10 * time.Millisecond) {
		_, err := os.Stat(filepath.Join(c.cfg.State, "fdstore.sock"))
		if !linux.Alive(m.Pid, m.StartTime) && errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("monitor %d or its store does not end", m.Pid)
		}
	}
}

// rest takes away what is nobody's now.
func (c *cleanup) rest() error {
	if !c.yes {
		return nil
	}
	bridge := ""
	if c.cfg.CNI.BuiltinNetwork {
		bridge = c.cfg.CNI.BuiltinBridge
	}
	errs := []error{builtin.RemoveUnused(bridge, cleanupLinks), external.RemoveArea(filepath.Join(c.cfg.State, "oci"))}
	// By name: the directory may be somebody else's too.
	for _, name := range stateEntries {
		errs = append(errs, os.RemoveAll(filepath.Join(c.cfg.State, name)))
	}
	return errors.Join(errs...)
}

// stateEntries are what is in a state directory when no pod is.
var stateEntries = []string{
	"pods", "containers", "runtimes", "monitor.json", "monitor.lock", "monitor.log", "monitor.log.1", "monitor.sock", "fdstore.sock",
	"berth.sock", "cleanup.sock", "daemon.lock", loadedFile,
}
