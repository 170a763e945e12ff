package registry

import (
	"fmt"
	"slices"
	"time"
)

// Attempt is one request of a session, for people who ask why.
type Attempt struct {
	Endpoint   string // "mirror https://mirror.example"
	Request    string // "GET manifests/latest"
	Credential string // what the endpoint would be or was given
	Answer     string // "200 OK" or what went wrong
	Took       time.Duration
}

func (a Attempt) String() string {
	return fmt.Sprintf("%s %s (%s): %s", a.Request, a.Endpoint, a.Credential, a.Answer)
}

// maxTrace bounds the memory of a session with a flaky registry.
const maxTrace = 256

// Trace lists every request of the session in the order of their answers.
func (s *Session) Trace() []Attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.trace)
}

func (s *Session) note(h *host, request string, began time.Time, err error) Attempt {
	a := Attempt{Endpoint: h.String(), Request: request, Credential: h.label, Answer: "ok", Took: time.Since(began)}
	if err != nil {
		a.Answer = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.trace) < maxTrace {
		s.trace = append(s.trace, a)
	}
	return a
}
