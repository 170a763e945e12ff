package streaming

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"
)

// serveV5 serves an exec or an attach over a WebSocket with the subprotocol
// v5.channel.k8s.io: v4, and a message that closes the client's input.
func (s *Server) serveV5(w http.ResponseWriter, req *http.Request, c *command) {
	kinds := make([]wsstream.ChannelType, remotecommand.StreamResize+1)
	kinds[remotecommand.StreamErr] = wsstream.WriteChannel
	kinds[remotecommand.StreamResize] = wsstream.ReadChannel
	for channel, wanted := range map[int]bool{
		remotecommand.StreamStdOut: c.streams.Stdout,
		remotecommand.StreamStdErr: c.streams.Stderr,
	} {
		if wanted {
			kinds[channel] = wsstream.WriteChannel
		}
	}
	if c.streams.Stdin {
		kinds[remotecommand.StreamStdIn] = wsstream.ReadChannel
	}
	ws := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: kinds},
	})
	ws.SetIdleTimeout(s.idleTimeout())
	_, streams, err := ws.Open(w, req)
	if err != nil {
		s.Log.Debug("upgrade to WebSocket", "error", err)
		return
	}
	defer ws.Close()
	// An empty message on the first channel that we write says that all is ready.
	first := remotecommand.StreamErr
	if c.streams.Stderr {
		first = remotecommand.StreamStdErr
	}
	if c.streams.Stdout {
		first = remotecommand.StreamStdOut
	}
	streams[first].Write(nil)

	resize := make(chan remotecommand.TerminalSize)
	go sizes(req.Context(), streams[remotecommand.StreamResize], resize)
	err = c.serve(req.Context(), streams[remotecommand.StreamStdIn],
		streams[remotecommand.StreamStdOut], streams[remotecommand.StreamStdErr], resize)
	if err := json.NewEncoder(streams[remotecommand.StreamErr]).Encode(c.outcome(err)); err != nil {
		s.Log.Debug("tell a client the outcome", "error", err)
	}
}

// sizes hands on the sizes of the client's terminal.
func sizes(ctx context.Context, from io.Reader, to chan<- remotecommand.TerminalSize) {
	defer close(to)
	for d := json.NewDecoder(from); ; {
		var size remotecommand.TerminalSize
		if d.Decode(&size) != nil {
			return
		}
		select {
		case to <- size:
		case <-ctx.Done():
			return
		}
	}
}

// outcome is a metav1.Status, in which a client of v4 or later is told how the
// command ended.
type outcome struct {
	Metadata struct{} `json:"metadata"`
	Status   string   `json:"status"`
	Message  string   `json:"message,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Details  *details `json:"details,omitempty"`
	Code     int32    `json:"code,omitempty"`
}

type details struct {
	Causes []cause `json:"causes"`
}

type cause struct {
	Type    string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// outcome says what the library says to clients of v4.
func (c *command) outcome(err error) outcome {
	var exit utilexec.ExitError
	switch {
	case err == nil:
		return outcome{Status: "Success"}
	case errors.As(err, &exit):
		return outcome{
			Status:  "Failure",
			Reason:  remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", exit),
			Details: &details{[]cause{{remotecommand.ExitCodeCauseType, strconv.Itoa(exit.ExitStatus())}}},
		}
	}
	text := fmt.Sprintf("error %s: %v", c.doing, err)
	return outcome{
		Status: "Failure", Reason: "InternalError", Message: "Internal error occurred: " + text,
		Details: &details{[]cause{{Message: text}}}, Code: http.StatusInternalServerError,
	}
}
