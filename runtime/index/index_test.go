package index

import (
	"errors"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
)

func TestGet(t *testing.T) {
	x := New[int]("thing")
	for i, id := range []string{"abc1", "abc2", "b"} {
		if err := x.Add(id, "name-"+id, i); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		id   string
		want int
		err  error
	}{
		"full id":                          {"abc2", 1, nil},
		"unique prefix":                    {"abc1"[:4], 0, nil},
		"ambiguous prefix":                 {"abc", 0, errdefs.ErrInvalidArgument},
		"full id that is another's prefix": {"b", 2, nil},
		"unknown":                          {"x", 0, errdefs.ErrNotFound},
		"empty is no prefix of everything": {"", 0, errdefs.ErrNotFound},
	} {
		got, err := x.Get(tc.id)
		if !errors.Is(err, tc.err) || got != tc.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestNamesAndOrder(t *testing.T) {
	x := New[string]("thing")
	for _, id := range []string{"c", "a", "b"} {
		if err := x.Add(id, id, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Add("d", "a", "d"); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("name twice: %v", err)
	}
	if err := x.Add("a", "d", "d"); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("id twice: %v", err)
	}
	x.Remove("a", "a")
	x.Remove("a", "a")
	if got := x.All(); !slices.Equal(got, []string{"c", "b"}) {
		t.Errorf("order: %v", got)
	}
	if _, ok := x.Named("a"); ok {
		t.Error("name of a removed object")
	}
	if v, ok := x.Named("b"); !ok || v != "b" {
		t.Error("by name")
	}
}

func TestNewID(t *testing.T) {
	if a, b := NewID(), NewID(); len(a) != 64 || a == b {
		t.Errorf("%s %s", a, b)
	}
}
