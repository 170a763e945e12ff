package apparmor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

const (
	// DefaultName is the profile that Berth makes and loads itself.
	DefaultName = "berth-default"
	// Unconfined is no profile, as the kernel calls it.
	Unconfined = "unconfined"
)

// Options say what the administrator wants.
type Options struct {
	Disable bool
	// Default is the profile of containers that ask for none or for
	// RuntimeDefault: DefaultName, Unconfined, or one that is loaded by others.
	Default string
}

// AppArmor is that of the host. It may be used by several goroutines.
type AppArmor struct {
	host
	name   string
	absent error

	mu sync.Mutex // one load at a time
}

// host is where things are.
type host struct {
	enabled, profiles, policies, label string // files and a directory
	parser                             string // the program; empty: there is none
	nested                             bool   // the daemon itself runs in a container
}

func thisHost() host {
	return host{
		enabled:  "/sys/module/apparmor/parameters/enabled",
		profiles: "/sys/kernel/security/apparmor/profiles",
		policies: "/etc/apparmor.d",
		label:    "/proc/self/attr/apparmor/current",
		parser:   findParser(),
		nested:   os.Getenv("container") != "",
	}
}

// findParser looks where distributions put it, too: services of other init
// systems than systemd may have no sbin in their PATH.
func findParser() string {
	for _, name := range []string{"apparmor_parser", "/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Open looks at the host. Load is still to be called.
func Open(o Options) *AppArmor { return open(o, thisHost()) }

func open(o Options, h host) *AppArmor {
	return &AppArmor{host: h, name: o.Default, absent: h.absent(o.Disable)}
}

// absent says why no container can be confined.
func (h *host) absent(disabled bool) error {
	why := ""
	switch enabled, _ := os.ReadFile(h.enabled); {
	case disabled:
		why = "AppArmor is disabled in Berth's configuration"
	case !strings.HasPrefix(string(enabled), "Y"):
		why = "this host has no AppArmor"
	case h.nested:
		// As for containerd: the profiles that are loaded from within would be the
		// host's (the runtimes set this variable for what they start).
		why = `Berth itself runs in a container (its environment has "container"), where AppArmor is the host's`
	default:
		if _, err := h.list(); err != nil {
			why = "AppArmor is there, but not the list of its profiles: " + err.Error()
		}
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("%s: %w", why, errdefs.ErrFailedPrecondition)
}

// Absent says why containers cannot be confined, or nil.
func (a *AppArmor) Absent() error { return a.absent }

// NoDefault says why there cannot be a default profile, though there may be
// others, or nil.
func (a *AppArmor) NoDefault() error {
	switch {
	case a.absent != nil:
		return a.absent
	case a.name == DefaultName && a.parser == "":
		return fmt.Errorf("this host has no apparmor_parser to load the default profile with: %w", errdefs.ErrFailedPrecondition)
	}
	return nil
}

// Load loads the default profile, over one that an earlier version of Berth has
// left. Others than Berth's own it cannot load; then it looks for it.
func (a *AppArmor) Load() error {
	switch {
	case a.absent != nil || a.name == Unconfined:
		return nil
	case a.name != DefaultName:
		return a.Loaded(a.name)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.load()
}

// Default is the name of the default profile, which is loaded: anew, if somebody
// has unloaded it since, as "aa-teardown" and a purge of AppArmor's package do.
func (a *AppArmor) Default() (string, error) {
	switch {
	case a.absent != nil:
		return "", a.absent
	case a.name == Unconfined:
		return Unconfined, nil
	case a.name != DefaultName:
		return a.name, a.Loaded(a.name)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.Loaded(a.name)
	if errdefs.IsNotFound(err) {
		err = a.load()
	}
	return a.name, err
}

// Loaded says nil if the kernel knows the profile.
func (a *AppArmor) Loaded(name string) error {
	if a.absent != nil {
		return a.absent
	}
	text, err := a.list()
	if err != nil {
		return fmt.Errorf("look for AppArmor profile %q: %w", name, err)
	}
	for line := range strings.Lines(text) { // "NAME (MODE)"
		if name != "" && strings.HasPrefix(line, name+" (") {
			return nil
		}
	}
	return fmt.Errorf("AppArmor profile %q is not loaded: %w", name, errdefs.ErrNotFound)
}

func (h *host) list() (string, error) {
	b, err := os.ReadFile(h.profiles)
	return string(b), err
}

// loadLimit bounds the parser, which takes some tens of milliseconds.
const loadLimit = 30 * time.Second

func (a *AppArmor) load() error {
	if err := a.NoDefault(); err != nil {
		return err
	}
	own, _ := os.ReadFile(a.label) // without: nothing confines Berth
	profile, err := text(a.policies, string(own))
	if err != nil {
		return fmt.Errorf("make AppArmor profile %s: %w", DefaultName, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), loadLimit)
	defer cancel()
	// Replace; and what the parser has cached is not what it gets here.
	cmd := exec.CommandContext(ctx, a.parser, "--replace", "--skip-cache")
	cmd.Stdin = strings.NewReader(profile)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("load AppArmor profile %s: %w", DefaultName, errors.Join(err, errors.New(strings.TrimSpace(said.String())), errdefs.ErrFailedPrecondition))
	}
	return nil
}
