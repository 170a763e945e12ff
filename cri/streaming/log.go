package streaming

import (
	"context"
	"log/slog"
	"strings"

	"k8s.io/klog/v2"
)

// redirectLog takes over what the Kubernetes libraries log. There every exec of
// a program that does not exist is an error; here its client is told, and only a
// panic is one.
func redirectLog(log *slog.Logger) {
	klog.SetSlogLogger(slog.New(calm{log.Handler()}))
}

type calm struct{ slog.Handler }

// Handle is slog.Handler.
func (c calm) Handle(ctx context.Context, r slog.Record) error {
	if !strings.Contains(r.Message, "panic") {
		r.Level = min(r.Level, slog.LevelInfo)
	}
	return c.Handler.Handle(ctx, r)
}

// WithAttrs is slog.Handler.
func (c calm) WithAttrs(attrs []slog.Attr) slog.Handler { return calm{c.Handler.WithAttrs(attrs)} }

// WithGroup is slog.Handler.
func (c calm) WithGroup(name string) slog.Handler { return calm{c.Handler.WithGroup(name)} }
