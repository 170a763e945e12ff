package spec

import (
	"fmt"
	"path"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// process says what runs, and where. The command of the request replaces the
// image's entrypoint, its args replace the image's cmd; a command alone drops
// the image's cmd too, since those were arguments for the entrypoint.
func process(in *Input, s *specs.Spec) error {
	command, args := in.Config.GetCommand(), in.Config.GetArgs()
	if len(command) == 0 {
		if len(args) == 0 {
			args = in.Image.Cmd
		}
		// ENTRYPOINT [""] is how Dockerfiles reset an inherited one.
		if e := in.Image.Entrypoint; len(e) != 1 || e[0] != "" {
			command = e
		}
	}
	s.Process.Args = slices.Concat(command, args)
	if len(s.Process.Args) == 0 {
		return fmt.Errorf("nothing to run: neither the request nor the image %s names a command: %w", in.ImageName, errdefs.ErrInvalidArgument)
	}
	if s.Process.Args[0] == "" {
		return fmt.Errorf("nothing to run: the command is empty: %w", errdefs.ErrInvalidArgument)
	}
	s.Process.Terminal = in.Config.GetTty()
	s.Process.Cwd = in.Config.GetWorkingDir()
	if s.Process.Cwd == "" {
		// Old images name it relative to the root.
		s.Process.Cwd = path.Join("/", in.Image.WorkingDir)
	}
	return nil
}
