package cri

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// listField is the number of the one field of a list's reply, and of a reply of
// its streaming twin.
const listField protowire.Number = 1

// entries remembers how the entries of a list look on the wire. The kubelet
// lists everything every second, and encoding 500 pods takes ten times as long
// as all the rest of it. K is a version of an object, so that nothing has to be
// forgotten when an object changes: a list of all keeps its own entries only.
type entries[K comparable] struct {
	last atomic.Pointer[map[K][]byte]
}

// of returns the entries of the versions, each with its field number. all says
// that these are all that there are.
func (e *entries[K]) of(versions []K, all bool, describe func(K) proto.Message) ([][]byte, error) {
	var known map[K][]byte
	if last := e.last.Load(); last != nil {
		known = *last
	}
	now := make(map[K][]byte, len(versions))
	list := make([][]byte, 0, len(versions))
	for _, v := range versions {
		wire, ok := known[v]
		if !ok {
			var err error
			if wire, err = entry(describe(v)); err != nil {
				return nil, err
			}
		}
		now[v] = wire
		list = append(list, wire)
	}
	if all {
		e.last.Store(&now)
	}
	return list, nil
}

// entry encodes an entry of a list.
func entry(m proto.Message) ([]byte, error) {
	body, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode list: %w", err)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, listField, protowire.BytesType), body), nil
}

// entriesOf describes and encodes what was measured, on all processors at once;
// what was described is garbage when the next one is.
func entriesOf[T any](items []T, describe func(T) (m proto.Message, ok bool)) [][]byte {
	return collect(items, func(item T) ([]byte, bool) {
		m, ok := describe(item)
		if !ok {
			return nil, false
		}
		wire, err := entry(m)
		if err != nil {
			slog.Error("left out of a list", "error", err)
		}
		return wire, err == nil
	})
}

// reply is a reply with encoded entries. What a message does not know is sent as
// it is, so nobody can tell them from entries that were encoded with it.
func reply[M proto.Message](m M, list [][]byte) M {
	size := 0
	for _, wire := range list {
		size += len(wire)
	}
	whole := make(protoreflect.RawFields, 0, size)
	for _, wire := range list {
		whole = append(whole, wire...)
	}
	m.ProtoReflect().SetUnknown(whole)
	return m
}
