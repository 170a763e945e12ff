package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// options are the flags.
type options struct {
	image        string
	command      []string
	rounds       int
	perRound     int
	warmup       int
	execs        int
	parallel     int
	burst        int
	pods         int
	idle         time.Duration
	settle       time.Duration
	pull         string
	cgroupParent string
	handler      string
	hostNetwork  bool
	phases       []string
	json         bool
	processes    map[string]*regexp.Regexp
	restart      map[string]string
}

// phase is one group of figures. It drives all runtimes by itself, in turn.
type phase struct {
	name string
	run  func(context.Context, *bench) error
}

var phases = []phase{
	{"start", startPhase},
	{"exec", execPhase},
	{"burst", burstPhase},
	{"density", densityPhase},
	{"pull", pullPhase},
}

// bench is one run.
type bench struct {
	options
	subjects []*subject
	report   *report
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	b := &bench{}
	pairs, err := b.parse(args)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		name, socket, _ := strings.Cut(pair, "=")
		s, err := newSubject(name, socket, &b.options)
		if err != nil {
			return err
		}
		defer s.close()
		b.subjects = append(b.subjects, s)
	}
	b.report = newReport(b.subjects)

	// Cleaning up goes on after ^C.
	defer func() {
		for _, s := range b.subjects {
			err = errors.Join(err, s.cleanUp(context.WithoutCancel(ctx)))
		}
	}()
	for _, s := range b.subjects {
		if err := s.prepare(ctx); err != nil {
			return err
		}
	}
	for _, p := range phases {
		if !slices.Contains(b.phases, p.name) {
			continue
		}
		progress("%s", p.name)
		if err := p.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if b.json {
		return b.report.writeJSON(os.Stdout)
	}
	return b.report.writeTable(os.Stdout)
}

// progress tells a person what is going on; figures go to standard output.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

func (b *bench) parse(args []string) (pairs []string, err error) {
	var names []string
	for _, p := range phases {
		names = append(names, p.name)
	}
	b.processes, b.restart = map[string]*regexp.Regexp{}, map[string]string{}

	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "usage: bench [flags] NAME=SOCKET ...\n\nLoads CRI runtimes in turn and prints their figures side by side. Run as root.\n\n")
		f.PrintDefaults()
	}
	command := f.String("command", "sleep 86397", "`PROGRAM ARGS` of each container, found in the process list by exactly this")
	only := f.String("phases", strings.Join(names, ","), "which phases to run")
	f.StringVar(&b.image, "image", "registry.k8s.io/e2e-test-images/busybox:1.29-2", "image of the containers, with sleep and true in it; pulled if it is not there")
	f.IntVar(&b.rounds, "rounds", 10, "turns of each runtime in start, exec and pull (pull: a third of them)")
	f.IntVar(&b.perRound, "per-round", 5, "pods in one turn of start")
	f.IntVar(&b.warmup, "warmup", 2, "pods before the first turn, not counted")
	f.IntVar(&b.execs, "execs", 20, "ExecSync calls in one turn of exec, per caller")
	f.IntVar(&b.parallel, "parallel", 8, "callers at once in exec and burst")
	f.IntVar(&b.burst, "burst", 40, "pods in one burst")
	f.IntVar(&b.pods, "pods", 40, "pods in density")
	f.DurationVar(&b.idle, "idle", 20*time.Second, "how long density watches the runtime's CPU under a kubelet's polling; 0 for not at all")
	f.DurationVar(&b.settle, "settle", 3*time.Second, "how long to wait after a change before it is looked at")
	f.StringVar(&b.pull, "pull", "", "image that pull removes and pulls; without it there is no pull phase")
	f.StringVar(&b.cgroupParent, "cgroup-parent", "", "cgroup of the pods, in the style of the runtimes' cgroup driver")
	f.StringVar(&b.handler, "handler", "", "runtime handler")
	f.BoolVar(&b.hostNetwork, "host-network", false, "pods without a network of their own")
	f.BoolVar(&b.json, "json", false, "print JSON instead of a table")
	f.Func("processes", "`NAME=REGEXP`: command lines of a runtime's own processes, if they are neither its daemon's children nor known helpers; may be repeated", func(v string) error {
		name, pattern, _ := strings.Cut(v, "=")
		re, err := regexp.Compile(pattern)
		b.processes[name] = re
		return err
	})
	f.Func("restart", "`NAME=COMMAND`: shell command that kills the runtime's daemon and starts it again; may be repeated", func(v string) error {
		name, cmd, ok := strings.Cut(v, "=")
		if !ok {
			return errors.New("want NAME=COMMAND")
		}
		b.restart[name] = cmd
		return nil
	})
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	b.command = strings.Fields(*command)
	b.phases = strings.Split(*only, ",")
	return f.Args(), b.check(f.Args(), names)
}

func (b *bench) check(pairs, phaseNames []string) error {
	if len(pairs) == 0 {
		return errors.New("name at least one runtime: berth=/run/berth/berth.sock (-h for help)")
	}
	var names []string
	for _, pair := range pairs {
		name, socket, ok := strings.Cut(pair, "=")
		if !ok || name == "" || socket == "" {
			return fmt.Errorf("%q is not NAME=SOCKET", pair)
		}
		if slices.Contains(names, name) {
			return fmt.Errorf("two runtimes are called %q", name)
		}
		names = append(names, name)
	}
	for name := range b.processes {
		if !slices.Contains(names, name) {
			return fmt.Errorf("-processes %s=: no such runtime", name)
		}
	}
	for name := range b.restart {
		if !slices.Contains(names, name) {
			return fmt.Errorf("-restart %s=: no such runtime", name)
		}
	}
	for _, p := range b.phases {
		if !slices.Contains(phaseNames, p) {
			return fmt.Errorf("-phases: %q is not one of %s", p, strings.Join(phaseNames, ","))
		}
	}
	for flag, v := range map[string]int{
		"rounds": b.rounds, "per-round": b.perRound, "execs": b.execs, "parallel": b.parallel, "burst": b.burst, "pods": b.pods,
	} {
		if v < 1 {
			return fmt.Errorf("-%s must be at least 1", flag)
		}
	}
	if len(b.command) == 0 {
		return errors.New("-command must not be empty")
	}
	return nil
}
