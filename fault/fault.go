package fault

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Variable is the environment variable that arms points at the start of a process.
const Variable = "BERTH_FAULTS"

// ErrInjected marks every error that comes from a point.
var ErrInjected = errors.New("injected fault")

var (
	armed  atomic.Int32 // how many points are set
	mu     sync.Mutex
	points = map[string][]action{} // guarded by mu
)

type action struct {
	kind, arg string
	times     int // -1: for ever
}

// Hit is called at a named point, e.g. "container.start.before-monitor".
func Hit(name string) error {
	if armed.Load() == 0 {
		return nil
	}
	a, ok := next(name)
	if !ok {
		return nil
	}
	switch a.kind {
	case "error":
		return fmt.Errorf("%w at %s: %s", ErrInjected, name, a.arg)
	case "sleep":
		d, _ := time.ParseDuration(a.arg)
		time.Sleep(d)
	case "exit":
		code, _ := strconv.Atoi(a.arg)
		os.Exit(code)
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal comes
	}
	return nil
}

func next(name string) (action, bool) {
	mu.Lock()
	defer mu.Unlock()
	list := points[name]
	if len(list) == 0 {
		return action{}, false
	}
	a := list[0]
	if a.times > 0 {
		if list[0].times--; list[0].times == 0 {
			points[name] = list[1:]
		}
	}
	return a, true
}

// Set arms one point; an empty text disarms it.
func Set(name, actions string) error {
	var list []action
	if actions != "" {
		for _, part := range strings.Split(actions, "->") {
			a, err := parse(part)
			if err != nil {
				return fmt.Errorf("fault %s: %w", name, err)
			}
			list = append(list, a)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if list == nil {
		delete(points, name)
	} else {
		points[name] = list
	}
	armed.Store(int32(len(points)))
	return nil
}

// Arm sets every point of a text "NAME=ACTIONS;NAME=ACTIONS".
func Arm(text string) error {
	for _, p := range strings.Split(text, ";") {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		name, actions, ok := strings.Cut(p, "=")
		if !ok {
			return fmt.Errorf("fault %q: want NAME=ACTIONS", p)
		}
		if err := Set(name, actions); err != nil {
			return err
		}
	}
	return nil
}

func parse(text string) (action, error) {
	a := action{times: -1}
	if n, rest, ok := strings.Cut(text, "*"); ok {
		times, err := strconv.Atoi(n)
		if err != nil || times < 1 {
			return a, fmt.Errorf("count %q: want a number above 0", n)
		}
		a.times, text = times, rest
	}
	a.kind = text
	if kind, rest, ok := strings.Cut(text, "("); ok {
		if !strings.HasSuffix(rest, ")") {
			return a, fmt.Errorf("action %q: no closing parenthesis", text)
		}
		a.kind, a.arg = kind, strings.TrimSuffix(rest, ")")
	}
	var err error
	switch a.kind {
	case "off", "kill", "error":
	case "sleep":
		_, err = time.ParseDuration(a.arg)
	case "exit":
		_, err = strconv.Atoi(a.arg)
	default:
		err = errors.New("unknown action")
	}
	if err != nil {
		return a, fmt.Errorf("action %q: %w", text, err)
	}
	return a, nil
}
