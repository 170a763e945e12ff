package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.opentelemetry.io/otel/trace"
)

// Nobody pays for tracing who does not use it.
func TestAStepThatIsNotTracedCostsNoMemory(t *testing.T) {
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		ctx, s := SandboxStart.Begin(ctx, "network")
		_, part := Begin(ctx, "part")
		part.Set("key", "value")
		part.End(nil)
		Tag(ctx, "key", "value")
		ContainerStart.Did(ctx, "monitor.init", time.Time{}, time.Millisecond)
		s.End(nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkStep(b *testing.B) {
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_, s := SandboxStart.Begin(ctx, "network")
		s.End(nil)
	}
}

func TestKind(t *testing.T) {
	for want, err := range map[string]error{
		"not_found": fmt.Errorf("x: %w", errdefs.ErrNotFound),
		"canceled":  errors.Join(errdefs.ErrUnavailable, context.Canceled),
		"corrupt":   errdefs.ErrDataLoss,
		"other":     errors.New("x"),
	} {
		if got := Kind(err); got != want {
			t.Errorf("%v: %s", err, got)
		}
	}
}

func TestLogHandler(t *testing.T) {
	var buf bytes.Buffer
	log := slog.New(LogHandler(slog.NewTextHandler(&buf, nil))).With("pod", "p")
	log.InfoContext(t.Context(), "without")
	id := trace.TraceID{1, 2, 3}
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled}))
	log.InfoContext(ctx, "with")
	lines := strings.Split(buf.String(), "\n")
	if strings.Contains(lines[0], "trace_id") || !strings.Contains(lines[1], "pod=p trace_id="+id.String()) {
		t.Errorf("%q", lines)
	}
}
