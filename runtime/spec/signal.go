package spec

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The real-time signals as programs count them: the C libraries keep the first
// two for themselves.
const (
	rtmin = 34
	rtmax = 64
)

// ParseSignal reads the name of a signal: "SIGTERM", "TERM", "15",
// "SIGRTMIN+3", "RTMAX-1", in any case; or the CRI's own SIGNAL_SIGRTMINPLUS3.
func ParseSignal(text string) (syscall.Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(text), "SIGNAL_")
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > rtmax {
			return 0, invalid("signal", text, "must be between 1 and 64")
		}
		return syscall.Signal(n), nil
	}
	name = strings.TrimPrefix(name, "SIG")
	if n := unix.SignalNum("SIG" + name); n != 0 {
		return n, nil
	}
	// The two that the kernel knows under another name only.
	switch name {
	case "CLD":
		return unix.SIGCHLD, nil
	case "POLL":
		return unix.SIGIO, nil
	case "IOT":
		return unix.SIGABRT, nil
	}
	base, rest := rtmin, ""
	if r, ok := strings.CutPrefix(name, "RTMIN"); ok {
		rest = strings.Replace(r, "PLUS", "+", 1)
	} else if r, ok := strings.CutPrefix(name, "RTMAX"); ok {
		base, rest = rtmax, strings.Replace(r, "MINUS", "-", 1)
	} else {
		return 0, invalid("signal", text, "unknown")
	}
	if rest == "" {
		return syscall.Signal(base), nil
	}
	offset, err := strconv.Atoi(rest)
	if n := base + offset; err == nil && (rest[0] == '+' || rest[0] == '-') && (rest[0] == '-') == (base == rtmax) && n >= rtmin && n <= rtmax {
		return syscall.Signal(n), nil
	}
	return 0, invalid("signal", text, "unknown")
}

// StopSignal is the signal that asks the container to end: the request's, else
// the image's, else SIGTERM. A name in the image that means nothing is SIGTERM
// too: the author's typo must not keep anybody from running the image.
func StopSignal(c *runtimeapi.ContainerConfig, image string) (syscall.Signal, error) {
	if s := c.GetStopSignal(); s != runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT {
		sig, err := ParseSignal(s.String())
		if err != nil {
			return 0, fmt.Errorf("stop_signal: %w", err)
		}
		return sig, nil
	}
	if image != "" {
		if sig, err := ParseSignal(image); err == nil {
			return sig, nil
		}
	}
	return unix.SIGTERM, nil
}
