package operator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-cri/berth/config"
)

// connection is the flags that say where the daemon is.
type connection struct {
	address, config string
}

// register adds the flags. Where a command has --all, -a is that, as people type
// it everywhere.
func (c *connection) register(f *pflag.FlagSet) {
	short := "a"
	if f.Lookup("all") != nil {
		short = ""
	}
	f.StringVarP(&c.address, "address", short, "", "`PATH` of the CRI socket (default: that of the configuration)")
	f.StringVarP(&c.config, "config", "c", "", "configuration `FILE` to look the socket up in (default "+config.DefaultPath+", if there is one)")
}

// path is the socket, without "unix://".
func (c *connection) path() (string, error) {
	if c.address != "" {
		path := strings.TrimPrefix(c.address, "unix://")
		if strings.Contains(path, "://") {
			return "", fmt.Errorf("--address %q: a unix socket is wanted", c.address)
		}
		return path, nil
	}
	cfg, err := config.Load(c.config, config.Overrides{})
	if err != nil {
		return "", fmt.Errorf("look the socket up: %w", err)
	}
	return cfg.Listen, nil
}

// client speaks to one daemon.
type client struct {
	conn    *grpc.ClientConn
	runtime runtimeapi.RuntimeServiceClient
	images  runtimeapi.ImageServiceClient
}

// maxMessage is what clients of Kubernetes accept.
const maxMessage = 16 << 20

func (c *connection) dial() (*client, error) {
	path, err := c.path()
	if err != nil {
		return nil, err
	}
	if err := answers(path); err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return &client{conn: conn, runtime: runtimeapi.NewRuntimeServiceClient(conn), images: runtimeapi.NewImageServiceClient(conn)}, nil
}

func (c *client) close() { c.conn.Close() }

// answers says in plain words why there is nobody at a socket. gRPC would tell
// it in the middle of its own story.
func answers(path string) error {
	s, err := net.DialTimeout("unix", path, 5*time.Second)
	switch {
	case err == nil:
		return s.Close()
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("no daemon is running at %s: start one with \"berth serve\", or name its socket with --address", path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("no permission for the socket %s: run as root", path)
	}
	return fmt.Errorf("connect to the daemon: %w", err)
}

// plain takes the words of gRPC out of an error.
func plain(err error) error {
	var exit *ExitError
	if err == nil || errors.As(err, &exit) {
		return err
	}
	if s, ok := status.FromError(err); ok {
		switch s.Code() {
		case codes.Unimplemented:
			return fmt.Errorf("this daemon cannot do that: %s", s.Message())
		case codes.Canceled:
			return context.Canceled
		}
		return errors.New(strings.ReplaceAll(err.Error(), s.Err().Error(), s.Message()))
	}
	return err
}

// failed reports what went wrong with one of several things, and goes on.
func failed(cmd *cobra.Command, err error) {
	fmt.Fprintln(cmd.ErrOrStderr(), "berth:", plain(err))
}
