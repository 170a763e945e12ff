package undo

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
)

func TestStack(t *testing.T) {
	var ran []string
	push := func(s *Stack, name string, err error) {
		s.Push(name, func(ctx context.Context) error {
			if ctx.Err() != nil {
				t.Errorf("%s: the request's end reached the undo", name)
			}
			ran = append(ran, name)
			return err
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	cause := errors.New("cause")
	for name, tc := range map[string]struct {
		cause, second error
		want          []string
		failed        bool
	}{
		"went well":           {nil, nil, nil, false},
		"failed":              {cause, nil, []string{"second", "first"}, false},
		"undo failed as well": {cause, os.ErrNotExist, []string{"second", "first"}, true},
	} {
		ran = nil
		var s Stack
		push(&s, "first", nil)
		push(&s, "second", tc.second)
		err := s.Run(ctx, tc.cause)
		if !errors.Is(err, tc.cause) || Failed(err) != tc.failed || !slices.Equal(ran, tc.want) {
			t.Errorf("%s: %v, ran %v", name, err, ran)
		}
		if errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the kind of the undo's error shows", name)
		}
	}
}
