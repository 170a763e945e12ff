package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-cri/berth/runtime/oci"
)

const (
	maxSpec  = 4 << 20 // bytes of config.json
	maxWords = 4 << 10 // of what a hook says
)

// Set is the hooks of one container.
type Set struct {
	*specs.Hooks
	state specs.State
}

// Load reads the hooks of a bundle.
func Load(b *oci.Bundle) (*Set, error) {
	f, err := os.Open(filepath.Join(b.Dir, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("read hooks: %w", err)
	}
	defer f.Close()
	var spec struct {
		Hooks       *specs.Hooks
		Annotations map[string]string
	}
	if err := json.NewDecoder(io.LimitReader(f, maxSpec)).Decode(&spec); err != nil {
		return nil, fmt.Errorf("read hooks: %w", err)
	}
	if spec.Hooks == nil {
		spec.Hooks = &specs.Hooks{}
	}
	return &Set{Hooks: spec.Hooks, state: specs.State{
		Version: specs.Version, ID: b.ID, Bundle: b.Dir, Annotations: spec.Annotations,
	}}, nil
}

// State is what a hook reads: the container's, with a process or (0) none.
func (s *Set) State(status specs.ContainerState, pid int) ([]byte, error) {
	state := s.state
	state.Status, state.Pid = status, pid
	b, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("state for hooks: %w", err)
	}
	return b, nil
}

// Run runs hooks on the host, one after the other, until one fails.
func Run(ctx context.Context, kind string, list []specs.Hook, state []byte) error {
	for _, h := range list {
		ctx, cancel := Limit(ctx, h)
		err := run(ctx, h, state)
		cancel()
		if err != nil {
			return Failed(kind, h, err)
		}
	}
	return nil
}

// Limit bounds the time of a hook.
func Limit(ctx context.Context, h specs.Hook) (context.Context, context.CancelFunc) {
	if h.Timeout == nil {
		return context.WithCancel(ctx)
	}
	limit := time.Duration(*h.Timeout) * time.Second
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("took more than %s and was killed", limit))
}

// Failed is the error of a hook.
func Failed(kind string, h specs.Hook, err error) error {
	return &oci.StepError{Step: kind + " hook " + h.Path, Detail: err.Error()}
}

func run(ctx context.Context, h specs.Hook, state []byte) error {
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env = append([]string{}, h.Env...) // not nil, which is ours
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(state)
	var out bytes.Buffer
	words := &limited{to: &out}
	cmd.Stdout, cmd.Stderr = words, words
	cmd.WaitDelay = time.Second // something that it left holds the pipe
	err := cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return WithWords(err, out.String())
}

// WithWords adds what a hook has said to how it ended.
func WithWords(err error, words string) error {
	if words = strings.TrimSpace(words); words != "" {
		return fmt.Errorf("%w: %s", err, words)
	}
	return err
}

// limited takes everything and keeps the beginning.
type limited struct{ to *bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	l.to.Write(b[:min(len(b), maxWords-min(l.to.Len(), maxWords))])
	return len(b), nil
}
