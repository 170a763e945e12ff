package plan

import (
	"bytes"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// filled returns one step of every kind with something in every field.
func filled(t testing.TB) []Step {
	var steps []Step
	for o := op(1); o.step() != nil; o++ {
		s := o.step()
		if s.op() != o {
			t.Fatalf("step %T of number %d says it is %d", s, o, s.op())
		}
		fill(t, reflect.ValueOf(s).Elem())
		steps = append(steps, s)
	}
	if len(steps) != int(opNext)-1 {
		t.Fatalf("%d kinds of steps, of %d", len(steps), opNext-1)
	}
	return steps
}

func fill(t testing.TB, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range 3 {
			fill(t, v.Index(i))
		}
	case reflect.Interface: // the step in an Outside
		inner := &Bind{}
		fill(t, reflect.ValueOf(inner).Elem())
		v.Set(reflect.ValueOf(inner))
	case reflect.String:
		v.SetString("/some/where")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32:
		v.SetInt(-7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1<<v.Type().Bits() - 2)
	default:
		t.Fatalf("field of kind %s", v.Kind())
	}
}

func TestEveryFieldOfEveryStepSurvives(t *testing.T) {
	want := filled(t)
	b, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
	for _, s := range got {
		if s.String() == "" {
			t.Errorf("%T has no name", s)
		}
	}
	for n := range b {
		if steps, err := Decode(b[:n]); err == nil && len(steps) >= len(want) {
			t.Fatalf("the first %d of %d bytes count as the whole plan", n, len(b))
		}
	}
}

// The steps share their lists with specs, of which several plans can be made at
// the same time; the race detector sees a write.
func TestEncodeOnlyReads(t *testing.T) {
	steps := filled(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := Encode(steps); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestDecodeRefuses(t *testing.T) {
	header := magic + "\x01"
	for name, tc := range map[string]struct{ in, why string }{
		"nothing":                   {"", "not a plan"},
		"something else":            {"#!/bin/sh", "not a plan"},
		"another version":           {magic + "\x63", "another version"},
		"a step of the future":      {header + "\x7f", "unknown step"},
		"a step number too large":   {header + "\xff\x01", "unknown step"},
		"an endless number":         {header + string(rune(opPropagate)) + strings.Repeat("\xff", 20), "damaged"},
		"a text longer than all":    {header + string(rune(opHostname)) + "\x7fa", "damaged"},
		"a NUL in a text":           {header + string(rune(opHostname)) + "\x03a\x00b", "damaged"},
		"a step within one within":  {header + string(rune(opOutside)) + string(rune(opOutside)) + string(rune(opKeyring)), "damaged"},
		"an unknown step within":    {header + string(rune(opOutside)) + "\x7f", "damaged"},
		"a flag of two":             {header + string(rune(opTerminal)) + "\x00\x00\x00\x02", "damaged"},
		"a list longer than memory": {header + string(rune(opUser)) + "\x00\x00\xff\xff\xff\xff\xff\xff\xff\x7f", "damaged"},
		"a number for a small type": {header + string(rune(opUmask)) + "\xff\xff\xff\xff\xff\x01", "damaged"},
	} {
		if _, err := Decode([]byte(tc.in)); err == nil || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Decode(make([]byte, MaxSize+1)); err == nil {
		t.Error("a plan of any size is taken")
	}
}

func TestEncodeRefusesTextsThatNoSystemCallTakes(t *testing.T) {
	_, err := Encode([]Step{&Program{Args: []string{"sh", "-c\x00"}}})
	if err == nil || !strings.Contains(err.Error(), "NUL") {
		t.Fatal(err)
	}
}

func TestFailureKeepsItsTexts(t *testing.T) {
	want := Failure{Step: "mount /data", Errno: 2, Detail: "source /x does not exist"}
	if got, ok := ParseFailure(want.Append(nil)); !ok || got != want {
		t.Fatalf("got %+v, %v", got, ok)
	}
	long := Failure{Step: strings.Repeat("s", 1<<16), Detail: strings.Repeat("d", 1<<16)}
	b := long.Append(nil)
	if got, ok := ParseFailure(b); len(b) > MaxMessage || !ok || got.Detail[0] != 'd' {
		t.Fatalf("%d bytes, %v", len(b), ok)
	}
	if _, ok := ParseFailure([]byte{Ready}); ok {
		t.Fatal("another message counts as a failure")
	}
}

func FuzzDecode(f *testing.F) {
	b, err := Encode(filled(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(magic + "\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		steps, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(steps)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(again))
		}
		second, err := Decode(again)
		if err != nil || !reflect.DeepEqual(steps, second) {
			t.Fatalf("%v\n%+v\n%+v", err, steps, second)
		}
	})
}

func FuzzParseFailure(f *testing.F) {
	f.Add(Failure{"step", 1, "detail"}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, ok := ParseFailure(b); ok && !bytes.HasPrefix(b, []byte{Failed}) {
			t.Fatalf("%+v", got)
		}
	})
}
