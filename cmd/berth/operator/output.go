package operator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// output is how results are printed.
type output struct {
	format  string // table, json or yaml
	noTrunc bool
	quiet   bool
}

func (o *output) register(f *pflag.FlagSet, quiet bool) {
	o.formatFlag(f, "table")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "print ids in full")
	if quiet {
		f.BoolVarP(&o.quiet, "quiet", "q", false, "print ids only")
	}
}

func (o *output) formatFlag(f *pflag.FlagSet, first string) {
	formats := "table, json or yaml"
	if first != "table" {
		formats = "json or yaml"
	}
	f.VarP((*format)(&o.format), "output", "o", "`FORMAT`: "+formats)
	o.format = first
	f.Lookup("output").DefValue = first
}

// format refuses a word that is none before anything is asked.
type format string

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "string" }
func (f *format) Set(s string) error {
	switch s {
	case "table", "json", "yaml":
		*f = format(s)
		return nil
	}
	return fmt.Errorf("it is none of table, json, yaml")
}

// machine reports whether the result is for a program.
func (o *output) machine() bool { return o.format != "table" }

// write prints a value as one document.
func (o *output) write(w io.Writer, v any) error {
	b, err := encode(v)
	if err != nil {
		return err
	}
	if o.format == "yaml" {
		if b, err = yaml.JSONToYAML(b); err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

// encode makes JSON, of messages in the CRI's own names. protojson varies its
// spaces on purpose, so they are made anew.
func encode(v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok {
		b, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
		if err != nil {
			return nil, err
		}
		v = json.RawMessage(b)
	}
	return json.MarshalIndent(v, "", "  ")
}

// id is an identifier as it stands in a table.
func (o *output) id(id string) string {
	if o.noTrunc {
		return id
	}
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), idLength)]
}

const idLength = 13 // as crictl

// table writes lines of cells below a title.
func table(w io.Writer, title []string, lines [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, cells := range append([][]string{title}, lines...) {
		for i, c := range cells {
			if c == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

// ago says how long ago a time in nanoseconds since the epoch was.
func ago(ns int64) string {
	if ns <= 0 {
		return ""
	}
	return span(time.Since(time.Unix(0, ns))) + " ago"
}

// span is a duration in one unit, two where the first is small.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// size is a number of bytes for people.
func size(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%dB", n)
	}
	value, units := float64(n), "BKMGTPE"
	i := 0
	for ; value >= unit && i+1 < len(units); i++ {
		value /= unit
	}
	if value < 10 {
		return fmt.Sprintf("%.1f%ciB", value, units[i])
	}
	return fmt.Sprintf("%.0f%ciB", value, units[i])
}

// line is a message as JSON on one line.
func line(m proto.Message) ([]byte, error) {
	b, err := encode(m)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	err = json.Compact(&buf, b)
	return buf.Bytes(), err
}
