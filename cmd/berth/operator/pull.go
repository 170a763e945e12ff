package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/berth-cri/berth/cri/node"
)

func pullCommand() *cobra.Command {
	var p pulling
	cmd := asks(&cobra.Command{
		Use:   "pull IMAGE",
		Short: "Pull an image",
		Long: `Pull an image and print its id. How far it is goes to standard error: as bars on a
terminal, else as lines.

With --explain everything that was asked of registries is listed at the end, also
when the pull failed: which endpoint (of hosts.toml, or the registry itself), what,
with whose credentials, and the answer.`,
		Example: "  berth pull registry.k8s.io/pause:3.10\n  berth pull --explain registry.example/app:1\n  echo $TOKEN | berth pull -u robot --password-stdin registry.example/app:1",
		Args:    cobra.ExactArgs(1),
	}, p.run)
	f := cmd.Flags()
	p.out.formatFlag(f, "table")
	f.BoolVarP(&p.quiet, "quiet", "q", false, "say nothing on the way")
	f.BoolVar(&p.explain, "explain", false, "list what was asked of registries")
	f.StringVarP(&p.user, "username", "u", "", "log in to the registry as this `USER`")
	f.BoolVar(&p.passwordStdin, "password-stdin", false, "read the password from standard input, instead of asking for it")
	return cmd
}

type pulling struct {
	out            output
	quiet, explain bool
	user           string
	passwordStdin  bool
}

func (p *pulling) run(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
	r := &node.PullRequest{Image: args[0], Username: p.user, Explain: p.explain || p.out.machine()}
	if err := p.password(ctx, cmd, r); err != nil {
		return err
	}
	v := p.view(cmd.ErrOrStderr(), args[0])
	began := time.Now()
	var last node.PullEvent
	failure := node.Client{Conn: c.conn}.Pull(ctx, r, func(e *node.PullEvent) {
		last = *e
		v.show(e)
	})
	v.end(failure == nil, time.Since(began))
	w := cmd.OutOrStdout()
	var err error
	switch {
	case p.out.machine():
		result := struct {
			Image   string         `json:"image"`
			ImageID string         `json:"imageID,omitempty"`
			Error   string         `json:"error,omitempty"`
			Trail   []node.Attempt `json:"trail"`
		}{args[0], last.ImageID, "", last.Trail}
		if failure != nil {
			result.Error = plain(failure).Error()
		}
		err = p.out.write(w, result)
	case p.explain:
		if err = printTrail(w, last.Trail); err == nil && last.ImageID != "" {
			_, err = fmt.Fprintln(w, "\n"+last.ImageID)
		}
	case failure == nil:
		_, err = fmt.Fprintln(w, last.ImageID)
	}
	if failure != nil {
		return failure
	}
	return err
}

// maxPassword bounds what is read as one; tokens have a few kilobytes.
const maxPassword = 64 << 10

func (p *pulling) password(ctx context.Context, cmd *cobra.Command, r *node.PullRequest) error {
	switch {
	case p.user == "" && p.passwordStdin:
		return errors.New("--password-stdin goes with --username")
	case p.user == "":
		return nil
	case p.passwordStdin:
		b, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxPassword))
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		r.Password = strings.TrimRight(string(b), "\r\n")
		return nil
	}
	var err error
	r.Password, err = askPassword(ctx, cmd, "Password of "+p.user+": ")
	return err
}

func printTrail(w io.Writer, trail []node.Attempt) error {
	var lines [][]string
	for _, a := range trail {
		lines = append(lines, []string{a.Endpoint, a.Request, a.Credential, a.Took.Round(100 * time.Microsecond).String(), a.Answer})
	}
	return table(w, []string{"ENDPOINT", "REQUEST", "CREDENTIAL", "TOOK", "ANSWER"}, lines)
}

// pullView shows how far a pull is.
type pullView interface {
	show(*node.PullEvent)
	end(ok bool, took time.Duration)
}

func (p *pulling) view(w io.Writer, image string) pullView {
	if p.quiet {
		return silent{}
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &bars{w: f, image: image}
	}
	return &steps{w: w, image: image}
}

type silent struct{}

func (silent) show(*node.PullEvent)    {}
func (silent) end(bool, time.Duration) {}

// steps is for logs: a line when something has changed for good.
type steps struct {
	w     io.Writer
	image string
	state string
	done  map[int]bool
	last  node.PullEvent
}

func (s *steps) show(e *node.PullEvent) {
	s.last = *e
	if e.State != s.state && e.State != "done" && e.State != "failed" {
		s.state = e.State
		fmt.Fprintf(s.w, "%s: %s\n", s.image, e.State)
	}
	for i, l := range e.Layers {
		if !l.Done || s.done[i] {
			continue
		}
		if s.done == nil {
			s.done = map[int]bool{}
		}
		s.done[i] = true
		what := size(uint64(l.Downloaded))
		if l.Here || l.Downloaded == 0 {
			what = "is here already"
		}
		fmt.Fprintf(s.w, "%s: layer %d of %d: %s\n", s.image, i+1, len(e.Layers), what)
	}
}

func (s *steps) end(ok bool, took time.Duration) {
	if ok {
		fmt.Fprintf(s.w, "%s: %s downloaded, %s unpacked in %s\n", s.image, size(uint64(s.last.Downloaded)), size(uint64(s.last.Unpacked)), took.Round(time.Millisecond))
	}
}

// bars is for terminals: a line for each layer, drawn over the one before.
type bars struct {
	w     *os.File
	image string
	drawn int // lines
	last  node.PullEvent
}

func (b *bars) show(e *node.PullEvent) {
	b.last = *e
	width, height, err := term.GetSize(int(b.w.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	io.WriteString(b.w, b.frame(width, height))
}

// frame is what replaces the frame before. When the layers are more than the
// lines of the terminal, the finished ones are left out.
func (b *bars) frame(width, height int) string {
	e := &b.last
	lines := []string{fmt.Sprintf("%s: %s  %s of %s", b.image, e.State, size(uint64(e.Downloaded)), size(uint64(e.Size)))}
	hidden := len(e.Layers) - max(height-2, 1)
	for _, l := range e.Layers {
		if hidden > 0 && l.Done {
			hidden--
			continue
		}
		lines = append(lines, bar(l, width))
	}
	lines = lines[:min(len(lines), max(height-1, 1))]
	var s strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", b.drawn)
	}
	for _, line := range lines {
		fmt.Fprintf(&s, "%s\x1b[K\n", line[:min(len(line), width-1)])
	}
	s.WriteString("\x1b[J")
	b.drawn = len(lines)
	return s.String()
}

func bar(l node.PullLayer, width int) string {
	id := strings.TrimPrefix(l.Digest, "sha256:")
	id = id[:min(len(id), 12)]
	switch {
	case l.Here || l.Done && l.Downloaded == 0:
		return id + " is here already"
	case l.Done:
		return id + " done, " + size(uint64(l.Downloaded))
	}
	const most = 40
	room := max(min(width-45, most), 5)
	full := 0
	if l.Size > 0 {
		full = int(min(l.Downloaded, l.Size) * int64(room) / l.Size)
	}
	return fmt.Sprintf("%s [%s%s] %s of %s", id, strings.Repeat("=", full), strings.Repeat(" ", room-full), size(uint64(l.Downloaded)), size(uint64(l.Size)))
}

func (b *bars) end(ok bool, took time.Duration) {
	if ok && b.drawn > 0 {
		fmt.Fprintf(b.w, "\x1b[%dA%s: %s downloaded, %s unpacked in %s\x1b[K\x1b[J\n", b.drawn, b.image,
			size(uint64(b.last.Downloaded)), size(uint64(b.last.Unpacked)), took.Round(time.Millisecond))
	}
}
