package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// When a running daemon takes up a change of a key, as its reload tag says.
const (
	Now     = "now"
	Restart = "restart"
)

// Setting is one key. Value is what a file would say, near enough for people.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Reload string `json:"reload"` // Now or Restart
}

// Settings are all keys, in the order of the default file. Keys of tables with
// the user's own names come in lexical order.
func (c *Config) Settings() []Setting {
	return settings(nil, reflect.ValueOf(c).Elem(), "", "")
}

func settings(all []Setting, table reflect.Value, prefix, reload string) []Setting {
	for i := range table.NumField() {
		f := table.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		when := f.Tag.Get("reload")
		if when == "" {
			when = reload
		}
		all = setting(all, table.Field(i), prefix+f.Tag.Get("toml"), when)
	}
	return all
}

func setting(all []Setting, v reflect.Value, key, reload string) []Setting {
	switch {
	case isTable(v.Type()):
		return settings(all, v, key+".", reload)
	case v.Kind() == reflect.Map:
		names := v.MapKeys()
		slices.SortFunc(names, func(a, b reflect.Value) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) })
		for _, name := range names {
			all = setting(all, v.MapIndex(name), key+"."+name.String(), reload)
		}
		return all
	}
	return append(all, Setting{key, text(v), reload})
}

var textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()

// isTable says whether a type is a table of keys, rather than one value.
func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !t.Implements(textMarshaler)
}

// text writes a value as JSON, which for these types is TOML as well.
func text(v reflect.Value) string {
	if v.Kind() == reflect.Slice && v.IsNil() {
		return "[]"
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v.Interface()); err != nil {
		return fmt.Sprint(v.Interface())
	}
	return string(bytes.TrimSpace(b.Bytes()))
}

// Reloaded is what a daemon that runs with c runs with after it has read next:
// keys with reload:"now" are next's, all others stay. Neither is changed.
func (c *Config) Reloaded(next *Config) (*Config, error) {
	merged := *c
	take(reflect.ValueOf(&merged).Elem(), reflect.ValueOf(next).Elem())
	merged.origin, merged.files = next.origin, next.files
	if err := merged.Validate(); err != nil {
		return nil, fmt.Errorf("with what stays until a restart: %w", err)
	}
	return &merged, nil
}

// take copies the keys that can change.
func take(to, from reflect.Value) {
	for i := range to.NumField() {
		f := to.Type().Field(i)
		switch {
		case !f.IsExported():
		case f.Tag.Get("reload") == Now:
			to.Field(i).Set(from.Field(i))
		case isTable(f.Type):
			take(to.Field(i), from.Field(i))
		}
	}
}

// Change is a key that differs. An empty text is a key that one side has not.
type Change struct {
	Key     string `json:"key"`
	Running string `json:"running,omitempty"`
	File    string `json:"file,omitempty"`
	Reload  string `json:"reload"`
}

// Diff compares what runs with what a file says.
func Diff(running, file []Setting) []Change {
	var changes []Change
	find := func(list []Setting, key string) (Setting, bool) {
		i := slices.IndexFunc(list, func(s Setting) bool { return s.Key == key })
		if i < 0 {
			return Setting{}, false
		}
		return list[i], true
	}
	for _, r := range running {
		if f, _ := find(file, r.Key); f.Value != r.Value {
			changes = append(changes, Change{r.Key, r.Value, f.Value, r.Reload})
		}
	}
	for _, f := range file {
		if _, ok := find(running, f.Key); !ok {
			changes = append(changes, Change{f.Key, "", f.Value, f.Reload})
		}
	}
	return changes
}
