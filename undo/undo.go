package undo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Limit bounds a whole undo, in wall time.
const Limit = 30 * time.Second

// Stack is for one operation in one goroutine; its zero value is ready:
//
//	var u undo.Stack
//	defer func() { err = u.Run(ctx, err) }()
//	…
//	u.Push("unpin namespaces", unpin)
type Stack struct{ steps []step }

type step struct {
	name string
	run  func(context.Context) error
}

// Push adds a step for something just acquired.
func (s *Stack) Push(name string, run func(context.Context) error) {
	s.steps = append(s.steps, step{name, run})
}

// Run does nothing when the operation went well. Else it runs the steps, last
// pushed first, and returns the operation's error, joined with what could not
// be undone (Failed finds out).
func (s *Stack) Run(ctx context.Context, cause error) error {
	if cause == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Limit)
	defer cancel()
	for i := len(s.steps) - 1; i >= 0; i-- {
		if err := s.steps[i].run(ctx); err != nil {
			cause = errors.Join(cause, &Error{s.steps[i].name, err})
		}
	}
	s.steps = nil
	return cause
}

// Error is a step that could not be undone.
type Error struct {
	Step string
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("undo: %s: %v", e.Step, e.Err) }

// Unwrap is left out on purpose: the kind of the operation's own error is what
// the caller must see.

// Failed says whether something could not be undone.
func Failed(err error) bool {
	var e *Error
	return errors.As(err, &e)
}
