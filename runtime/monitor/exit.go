package monitor

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/atomicfile"
)

// exitFile is written once, by the monitor, before anybody is told.
const exitFile = "exit.json"

// Exit is how a process ended.
type Exit struct {
	ID          string    `json:"id"`
	ContainerID string    `json:"containerID,omitempty"` // of an exec
	Pid         int       `json:"pid"`
	Code        int       `json:"code"`             // 128+n after signal n; 255 when not Known
	Signal      int       `json:"signal,omitempty"` // that ended it
	At          time.Time `json:"at"`
	Known       bool      `json:"known"`              // false: nobody saw the status
	TimedOut    bool      `json:"timedOut,omitempty"` // an exec killed at its deadline
}

// ReadExit reads the exit of the container of a directory; false when it has
// not ended (or nobody watched it).
func ReadExit(dir string) (Exit, bool, error) {
	var e Exit
	err := atomicfile.ReadJSON(filepath.Join(dir, exitFile), &e)
	if errors.Is(err, os.ErrNotExist) {
		return Exit{}, false, nil
	}
	return e, err == nil, err
}

func writeExit(dir string, e Exit) error {
	return atomicfile.WriteJSON(filepath.Join(dir, exitFile), e)
}

// setStatus fills in a wait status.
func (e *Exit) setStatus(ws unix.WaitStatus) {
	e.Known = true
	if ws.Signaled() {
		e.Signal = int(ws.Signal())
		e.Code = 128 + e.Signal
		return
	}
	e.Code = ws.ExitStatus()
}

// setUnknown says honestly that the code is lost; 255 is what containerd and
// CRI-O report then.
func (e *Exit) setUnknown() { e.Known, e.Code, e.Signal = false, 255, 0 }
