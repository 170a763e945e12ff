package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// report collects figures: rows in the order of their first appearance, a
// column for each runtime.
type report struct {
	columns []string
	rows    []*row
}

type row struct {
	Figure string             `json:"figure"`
	Unit   string             `json:"unit"`
	Values map[string]float64 `json:"values"` // by runtime; none where it has no such figure
}

func newReport(subjects []*subject) *report {
	r := &report{}
	for _, s := range subjects {
		r.columns = append(r.columns, s.name)
	}
	return r
}

// set records a figure of a runtime.
func (r *report) set(s *subject, figure, unit string, value float64) {
	for _, row := range r.rows {
		if row.Figure == figure {
			row.Values[s.name] = value
			return
		}
	}
	r.rows = append(r.rows, &row{figure, unit, map[string]float64{s.name: value}})
}

// times records the median of some durations, and p95 where asked for.
func (r *report) times(s *subject, figure string, d []time.Duration, p95 bool) {
	if len(d) == 0 {
		return
	}
	r.set(s, figure+" p50", "ms", milliseconds(percentile(d, 50)))
	if p95 {
		r.set(s, figure+" p95", "ms", milliseconds(percentile(d, 95)))
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// percentile is the nearest-rank one: a value that was really measured.
func percentile(d []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}

func (r *report) writeTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "\t\t")
	for _, c := range r.columns {
		fmt.Fprintf(tw, "%s\t", c)
	}
	fmt.Fprintln(tw)
	for _, row := range r.rows {
		fmt.Fprintf(tw, "%s\t%s\t", row.Figure, row.Unit)
		for _, c := range r.columns {
			if v, ok := row.Values[c]; ok {
				fmt.Fprintf(tw, "%s\t", number(v))
			} else {
				fmt.Fprint(tw, "-\t")
			}
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

// number prints three significant digits or so.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func (r *report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r.rows)
}
