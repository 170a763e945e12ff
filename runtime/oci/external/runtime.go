package external

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-cri/berth/runtime/oci"
)

// Runtime is one external runtime of the node.
type Runtime struct {
	Name     string // of the handler
	Program  string // an absolute path
	Root     string // where it keeps its state
	OwnRoot  bool   // nobody else uses that
	Area     string // <state>/oci
	Features Features
}

// Open looks at the runtime: its program must be there, and answer.
func (r *Runtime) Open(ctx context.Context) error {
	if err := Check(r.Program); err != nil {
		return err
	}
	if err := os.MkdirAll(r.Root, 0o711); err != nil {
		return err
	}
	var err error
	r.Features, err = probe(ctx, r.Program)
	return err
}

// Check says whether a program can be executed, before anything needs it.
func Check(program string) error {
	st, err := os.Stat(program)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist: %w", program, errdefs.ErrFailedPrecondition)
	case err != nil:
		return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	case !st.Mode().IsRegular() || st.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not an executable file: %w", program, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// Container is a container of this runtime, with its bundle.
func (r *Runtime) Container(id, bundle string) oci.External {
	return oci.External{Handler: r.Name, Program: r.Program, Root: r.Root, Area: r.Area, ID: id, Bundle: bundle, ExecCgroup: r.Features.ExecCgroup}
}

// Delete makes the runtime forget a container, whose processes are killed if
// there are any, and run its poststop hooks. nil when it does not know it.
func Delete(ctx context.Context, c *oci.External) error {
	known, err := knows(c.Root, c.ID)
	if err != nil || !known {
		return err
	}
	if err := run(ctx, c, nil, "delete", "--force", c.ID); err != nil {
		if known, _ := knows(c.Root, c.ID); !known {
			return nil // another call was faster
		}
		return err
	}
	return nil
}

// Forget is Delete for a container that is being removed, with what killed calls
// have left.
func Forget(ctx context.Context, c *oci.External) error {
	if err := Delete(ctx, c); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(c.Area, tmpDir, tmpPrefix(c.ID)+"*"))
	errs := []error{err}
	for _, dir := range left {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// Strangers are the containers that the runtime knows and nobody else. A root that
// was configured may be another's too, and is left alone.
func (r *Runtime) Strangers(known func(id string) bool) ([]oci.External, error) {
	if !r.OwnRoot {
		return nil, nil
	}
	list, err := os.ReadDir(r.Root)
	if err != nil {
		return nil, err
	}
	var all []oci.External
	for _, e := range list {
		if e.IsDir() && !known(e.Name()) {
			all = append(all, r.Container(e.Name(), ""))
		}
	}
	return all, nil
}

// knows looks for a container without a call: runc and crun have a directory of
// its name, runsc files with the name in theirs.
func knows(root, id string) (bool, error) {
	list, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, e := range list {
		if strings.Contains(e.Name(), id) {
			return true, nil
		}
	}
	return false, err
}

// Update tells the runtime of new limits. The cgroup has them already: this is
// for runtimes whose containers are not (only) in it, and for what the runtime
// has written down.
func Update(ctx context.Context, c *oci.External, r *specs.LinuxResources) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode limits: %w", err)
	}
	return run(ctx, c, b, "update", "--resources", "-", c.ID)
}

// run calls the runtime and waits for it.
func run(ctx context.Context, c *oci.External, stdin []byte, args ...string) error {
	j, err := newJob(c)
	if err != nil {
		return err
	}
	defer j.close()
	cmd := exec.CommandContext(ctx, c.Program, j.args(args...)...)
	cmd.Env = environment()
	cmd.Stdin = bytes.NewReader(stdin)
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return j.failure(ctx, args[0], out.String(), err)
	}
	return nil
}

// environment is ours without what is meant for us alone: a runtime hands
// NOTIFY_SOCKET and LISTEN_FDS on to containers.
func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if name == "NOTIFY_SOCKET" || strings.HasPrefix(name, "LISTEN_") || strings.HasPrefix(name, "BERTH_") {
			continue
		}
		env = append(env, e)
	}
	return env
}

// job is one call of a runtime: a directory for what it writes.
type job struct {
	c   *oci.External
	dir string
}

func newJob(c *oci.External) (*job, error) {
	dir, err := os.MkdirTemp(filepath.Join(c.Area, tmpDir), tmpPrefix(c.ID))
	if err != nil {
		return nil, fmt.Errorf("prepare a call of %s: %w", c.Program, err)
	}
	return &job{c, dir}, nil
}

// tmpPrefix begins the names of a container's directories, which hold a socket,
// whose path has to be short.
func tmpPrefix(id string) string { return id[:min(len(id), 16)] + "-" }

func (j *job) close() { os.RemoveAll(j.dir) }

func (j *job) file(name string) string { return filepath.Join(j.dir, name) }

func (j *job) args(more ...string) []string {
	return append([]string{"--root", j.c.Root, "--log", j.file("log"), "--log-format", "json"}, more...)
}
