package main

import (
	"context"
	"log/slog"
	"runtime"

	"github.com/berth-cri/berth/config"
	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/berth-cri/berth/telemetry"
	"github.com/berth-cri/berth/telemetry/export"
)

// startTracing is nil without an endpoint.
func startTracing(ctx context.Context, c config.Tracing, log *slog.Logger) (*export.Traces, error) {
	if c.Endpoint == "" {
		return nil, nil
	}
	return export.StartTracing(ctx, export.Tracing{
		Endpoint: c.Endpoint, Protocol: c.Protocol, Insecure: c.Insecure, Ratio: c.SamplingRatio, Version: version,
	}, log)
}

// serveMetrics is nil without an address.
func (d *daemonParts) serveMetrics(address string, s *monitor.Supervisor) (*export.Metrics, error) {
	if address == "" {
		return nil, nil
	}
	d.describe(s)
	m, err := export.ListenMetrics(address, d.log)
	if err != nil {
		return nil, err
	}
	go func() {
		if err := m.Serve(); err != nil {
			d.log.Error("metrics", "error", err)
		}
	}()
	d.log.Info("serving metrics", "address", m.Address())
	return m, nil
}

// describe adds the metrics that are looked up when they are asked for.
func (d *daemonParts) describe(s *monitor.Supervisor) {
	telemetry.Info("berth_build_info", "1, with the version of the daemon and of Go.", map[string]string{"version": version, "go": runtime.Version()})
	telemetry.Gauges("berth_pods", "Pod sandboxes by state.", "state", func() map[string]float64 {
		n := map[string]float64{"ready": 0, "notready": 0}
		for _, p := range d.pods.List() {
			n[string(p.Record().State)]++
		}
		return n
	})
	telemetry.Gauges("berth_containers", "Containers by state.", "state", func() map[string]float64 {
		n := map[string]float64{"created": 0, "running": 0, "exited": 0}
		for _, c := range d.all.List() {
			n[string(c.Status().State)]++
		}
		return n
	})
	d.describeImages()
	describeMonitor(s)
	telemetry.Gauge("berth_events_listeners", "Clients that listen to events.", func() float64 { n, _ := d.events.Counts(); return float64(n) })
	telemetry.Counter("berth_events_dropped_listeners_total", "Clients that were let go since they did not read their events.", func() float64 { _, n := d.events.Counts(); return float64(n) })
}

func (d *daemonParts) describeImages() {
	telemetry.Gauge("berth_images", "Images in the store.", func() float64 { return float64(len(d.images.List())) })
	telemetry.Gauge("berth_image_layers", "Layers in the store.", func() float64 { return float64(len(d.images.Layers())) })
	telemetry.Gauge("berth_image_store_bytes", "Bytes that images take on the disk.", func() float64 { return float64(d.images.FsUsage().Bytes) })
	telemetry.Gauge("berth_image_store_inodes", "Inodes that images take on the disk.", func() float64 { return float64(d.images.FsUsage().Inodes) })
	telemetry.Gauge("berth_image_pulls_in_flight", "Pulls that are under way.", func() float64 { return float64(len(d.images.Pulls())) })
	telemetry.Gauge("berth_image_sweep_last_timestamp_seconds", "When unused layers were swept last; 0 for never.", func() float64 {
		at, _ := d.images.Swept()
		if at.IsZero() {
			return 0
		}
		return float64(at.Unix())
	})
	telemetry.Counter("berth_image_swept_bytes_total", "Bytes of layers that sweeps took away.", func() float64 { _, n := d.images.Swept(); return float64(n) })
}

func describeMonitor(s *monitor.Supervisor) {
	telemetry.Gauge("berth_monitor_up", "1 while the monitor answers.", func() float64 {
		if s.Counts().Connected {
			return 1
		}
		return 0
	})
	telemetry.Counter("berth_monitor_lost_total", "Times that the connection to the monitor broke.", func() float64 { return float64(s.Counts().Lost) })
	telemetry.Counter("berth_monitor_spawned_total", "Monitors that were started.", func() float64 { return float64(s.Counts().Spawned) })
	telemetry.Counter("berth_monitor_upgraded_total", "Monitors that became those of this build.", func() float64 { return float64(s.Counts().Upgraded) })
	telemetry.Counter("berth_monitor_adopted_containers_total", "Running containers that were handed to a new monitor.", func() float64 { return float64(s.Counts().Adopted) })
}
