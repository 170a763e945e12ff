package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/config"
	"github.com/berth-cri/berth/linux"
)

// source is where a daemon's configuration comes from. Paths are absolute.
type source struct {
	File  string           `json:"file,omitempty"` // of --config
	Flags config.Overrides `json:"flags"`
}

func (s source) load() (*config.Config, error) { return config.Load(s.File, s.Flags) }

// loadedFile is in the state directory: what a daemon runs with, for berth
// config diff, berth doctor, and people.
const loadedFile = "config.running.json"

// loaded is the configuration in effect and how the files differ from it. It
// never changes.
type loaded struct {
	cfg *config.Config

	Version   string           `json:"version"`
	Pid       int              `json:"pid"`
	StartTime uint64           `json:"startTime"`
	At        time.Time        `json:"at"`
	Source    source           `json:"source"`
	Files     []string         `json:"files"`
	Settings  []config.Setting `json:"settings"`
	Pending   []config.Change  `json:"pending,omitempty"`  // what waits for a restart
	Problems  []string         `json:"problems,omitempty"` // why the files of now are not in effect
}

func newLoaded(cfg *config.Config, from source) *loaded {
	l := &loaded{
		cfg: cfg, Version: version, Pid: os.Getpid(), At: time.Now().UTC(),
		Source: from, Files: cfg.Files(), Settings: cfg.Settings(),
	}
	l.StartTime, _ = linux.StartTime(l.Pid) // 0 is nobody's: the file is then taken for left behind
	return l
}

func (l *loaded) problem() error {
	if len(l.Problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(l.Problems, "; "))
}

// store writes the file. Nobody depends on it but who asks.
func (d *daemonParts) store(l *loaded) {
	d.loaded.Store(l)
	if err := atomicfile.WriteJSON(filepath.Join(d.cfg.State, loadedFile), l); err != nil {
		d.log.Warn("tell the configuration in effect", "error", err)
	}
}

// followFiles loads the configuration anew on each hangup signal and change of
// its files, until ctx ends.
func (d *daemonParts) followFiles(ctx context.Context, hangup <-chan os.Signal) *sync.WaitGroup {
	from := d.loaded.Load().Source
	changed, err := config.Watch(ctx, from.File)
	if err != nil {
		d.log.Warn("the files of the configuration are not watched; reload by SIGHUP", "error", err)
	}
	d.store(d.loaded.Load())
	var running sync.WaitGroup
	running.Go(func() {
		defer os.Remove(filepath.Join(d.cfg.State, loadedFile))
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				d.tellReloading()
				d.reload(true)
				notify(d.log, daemon.SdNotifyReady)
			case <-changed:
				d.reload(false)
			}
		}
	})
	return &running
}

// tellReloading is the beginning of a reload as systemd's Type=notify-reload
// wants it: with the time.
func (d *daemonParts) tellReloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return
	}
	notify(d.log, fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// reload takes up what the files say, as a whole or not at all. Asked for, it
// also reads again what they name, and always says something.
func (d *daemonParts) reload(asked bool) {
	old := d.loaded.Load()
	now, use, err := d.next(old, asked)
	if err != nil {
		l := *old
		l.Problems = problems(err)
		if asked || !slices.Equal(l.Problems, old.Problems) {
			for _, p := range l.Problems {
				d.log.Error("the configuration is not valid and changes nothing", "problem", p)
			}
		}
		d.store(&l)
		notify(d.log, "STATUS=Running with the configuration from before: "+l.Problems[0])
		return
	}
	use()
	d.store(now)
	notify(d.log, "STATUS=")
	changes := config.Diff(old.Settings, now.Settings)
	for _, c := range changes {
		d.log.Info("configuration changed", "key", c.Key, "from", c.Running, "to", c.File)
	}
	if asked || !slices.Equal(now.Pending, old.Pending) {
		for _, c := range now.Pending {
			d.log.Warn("this change of the configuration waits for a restart", "key", c.Key, "running", c.Running, "file", c.File)
		}
	}
	if asked || len(changes) > 0 || len(old.Problems) > 0 {
		d.log.Info("configuration loaded", "files", now.Files, "changes", len(changes), "waiting", len(now.Pending))
	}
}

// next is what the files make of the configuration.
func (d *daemonParts) next(old *loaded, asked bool) (now *loaded, use func(), err error) {
	file, err := old.Source.load()
	if err != nil {
		return nil, nil, err
	}
	merged, err := old.cfg.Reloaded(file)
	if err != nil {
		return nil, nil, err
	}
	now = newLoaded(merged, old.Source)
	now.Pending = config.Diff(now.Settings, file.Settings())
	if !asked && slices.Equal(now.Settings, old.Settings) {
		return now, func() {}, nil
	}
	set, err := settingsOf(merged, d.host)
	if err != nil {
		return nil, nil, err
	}
	use, err = d.prepare(merged, set)
	return now, use, err
}

// problems are the texts of what errors.Join has joined: one for each line.
func problems(err error) []string { return strings.Split(err.Error(), "\n") }
