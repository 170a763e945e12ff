package export

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/berth-cri/berth/telemetry"
)

// Metrics is the server of the page.
type Metrics struct {
	server   *http.Server
	listener net.Listener
}

// ListenMetrics opens "HOST:PORT", or for "unix:///PATH" a socket that only root
// can use.
func ListenMetrics(address string, log *slog.Logger) (*Metrics, error) {
	var l net.Listener
	var err error
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		l, err = listenUnix(path)
	} else {
		l, err = net.Listen("tcp", address)
	}
	if err != nil {
		return nil, fmt.Errorf("metrics.address: %w", err)
	}
	// The process's own numbers are collected only where somebody can ask for them.
	for _, c := range []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := telemetry.Registry.Register(c); err != nil {
			l.Close()
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(telemetry.Registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: 4, Timeout: 10 * time.Second, EnableOpenMetrics: true,
	}))
	return &Metrics{server: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}, listener: l}, nil
}

func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	// Of a daemon that was killed; two daemons never share a state directory.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

// Address is where it listens: with port 0 in the configuration, what was given.
func (m *Metrics) Address() string { return m.listener.Addr().String() }

// Serve serves until Close.
func (m *Metrics) Serve() error {
	if err := m.server.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// Close ends it at once: a scrape that is cut off is made anew.
func (m *Metrics) Close() { m.server.Close() }
