package spec

import (
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]syscall.Signal{
		"SIGTERM": unix.SIGTERM, "term": unix.SIGTERM, "15": 15, "sigkill": unix.SIGKILL, "64": 64,
		"SIGCLD": unix.SIGCHLD, "SIGPOLL": unix.SIGIO, "SIGIOT": unix.SIGABRT, "SIGIO": unix.SIGIO, "SIGSTKFLT": unix.SIGSTKFLT,
		"SIGRTMIN": 34, "SIGRTMIN+3": 37, "rtmin+30": 64, "RTMAX": 64, "SIGRTMAX-14": 50, "SIGNAL_SIGRTMINPLUS15": 49, "SIGNAL_SIGRTMAXMINUS1": 63,
	} {
		if got, err := ParseSignal(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "65", "SIG", "SIGFOO", "SIGRTMIN-1", "SIGRTMIN+31", "SIGRTMIN3", "SIGRTMIN+", "RTMAX+1", "RTMAX-31", "SIGRTMIN+3x", "99999999999999999999"} {
		if got, err := ParseSignal(text); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: got %d, %v, want an error", text, got, err)
		}
	}
}

// Every name of the CRI's list must mean a signal, and the names of the kernel's
// must be the same ones.
func TestEverySignalOfTheCRI(t *testing.T) {
	for n, name := range runtimeapi.Signal_name {
		if n == 0 {
			continue
		}
		sig, err := ParseSignal(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if kernel := unix.SignalNum(strings.TrimPrefix(name, "SIGNAL_")); kernel != 0 && kernel != sig {
			t.Errorf("%s: got %d, the kernel calls it %d", name, sig, kernel)
		}
	}
}

func TestStopSignal(t *testing.T) {
	with := func(s runtimeapi.Signal) *runtimeapi.ContainerConfig {
		return &runtimeapi.ContainerConfig{StopSignal: s}
	}
	for situation, c := range map[string]struct {
		config *runtimeapi.ContainerConfig
		image  string
		want   syscall.Signal
	}{
		"nothing said":              {with(0), "", unix.SIGTERM},
		"the image's":               {with(0), "SIGQUIT", unix.SIGQUIT},
		"the request's":             {with(runtimeapi.Signal_SIGNAL_SIGUSR1), "SIGQUIT", unix.SIGUSR1},
		"a word in the image":       {with(0), "SIGFOO", unix.SIGTERM},
		"a real-time signal, by +":  {with(0), "SIGRTMIN+3", 37},
		"a real-time signal, by no": {with(runtimeapi.Signal_SIGNAL_SIGRTMIN), "", 34},
	} {
		t.Run(situation, func(t *testing.T) {
			if got, err := StopSignal(c.config, c.image); err != nil || got != c.want {
				t.Errorf("got %d, %v, want %d", got, err, c.want)
			}
		})
	}
	if _, err := StopSignal(with(99), ""); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a signal that does not exist: got %v", err)
	}
}
