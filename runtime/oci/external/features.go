package external

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// Features is what a runtime says it can do. One that has no command "features"
// (runc before 1.1, crun before 1.8.6) says nothing, and is not asked for it.
type Features struct {
	Known        bool     // it has told
	MountOptions []string // sorted
	Namespaces   []string
	ExecCgroup   bool // exec can be told a cgroup
}

// Has says whether a mount option is known.
func (f *Features) Has(option string) bool { return slices.Contains(f.MountOptions, option) }

// RecursiveReadOnly says whether a mount can be made read-only with all below it.
func (f *Features) RecursiveReadOnly() bool { return f.Has("rro") }

// UserNamespaces says whether containers can be put into one.
func (f *Features) UserNamespaces() bool { return slices.Contains(f.Namespaces, "user") }

const (
	probeLimit  = 10 * time.Second
	maxFeatures = 1 << 20
)

// probe asks the program.
func probe(ctx context.Context, program string) (Features, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	var f Features
	cmd := exec.CommandContext(ctx, program, "features")
	cmd.Env = environment()
	if out, err := cmd.Output(); err == nil {
		if f, err = parseFeatures(out); err != nil {
			return f, fmt.Errorf("%s features: %w: %w", program, err, errdefs.ErrFailedPrecondition)
		}
	} else if ctx.Err() != nil {
		return f, fmt.Errorf("%s features: no answer within %s: %w", program, probeLimit, errdefs.ErrFailedPrecondition)
	} else if version := exec.CommandContext(ctx, program, "--version"); version.Run() != nil {
		return f, fmt.Errorf("%s is no OCI runtime: it knows neither features nor --version: %w", program, errdefs.ErrFailedPrecondition)
	}
	help := exec.CommandContext(ctx, program, "exec", "--help")
	help.Env = environment()
	usage, _ := help.Output()
	f.ExecCgroup = strings.Contains(string(usage), "--cgroup")
	return f, nil
}

func parseFeatures(b []byte) (Features, error) {
	if len(b) > maxFeatures {
		return Features{}, fmt.Errorf("an answer of %d bytes", len(b))
	}
	var told features.Features
	if err := json.Unmarshal(b, &told); err != nil {
		return Features{}, err
	}
	f := Features{Known: true, MountOptions: slices.Sorted(slices.Values(told.MountOptions))}
	if told.Linux != nil {
		f.Namespaces = told.Linux.Namespaces
	}
	return f, nil
}
