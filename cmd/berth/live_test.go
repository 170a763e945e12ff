package main

import (
	"encoding"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-cri/berth/config"
	"github.com/berth-cri/berth/runtime/spec"
)

// TestReloadTagsAreTrue changes key after key: what is declared to change while
// the daemon runs must reach the live settings, and nothing else may.
func TestReloadTagsAreTrue(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(profile, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	live := func(cfg *config.Config) *liveSettings {
		set, err := settingsOf(cfg, spec.Host{})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	tested := 0
	var walk func(table reflect.Type, prefix string)
	walk = func(table reflect.Type, prefix string) {
		for i := range table.NumField() {
			f := table.Field(i)
			if !f.IsExported() {
				continue
			}
			key := prefix + f.Tag.Get("toml")
			if f.Type.Kind() == reflect.Struct && !f.Type.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
				walk(f.Type, key+".")
				continue
			}
			cfg := config.Default()
			cfg.Runtimes["other"] = config.Runtime{Type: "embedded"}
			before := live(cfg)
			alter(t, at(reflect.ValueOf(cfg).Elem(), key), key, profile)
			reached := !reflect.DeepEqual(before, live(cfg))
			if when := f.Tag.Get("reload"); reached != (when == config.Now) {
				t.Errorf("%s has reload:%q, and a change of it reaches the live settings: %v", key, when, reached)
			}
			tested++
		}
	}
	walk(reflect.TypeFor[config.Config](), "")
	if tested < 30 {
		t.Errorf("only %d keys", tested)
	}
}

// at finds the field of a key.
func at(table reflect.Value, key string) reflect.Value {
	for i := range table.NumField() {
		name := table.Type().Field(i).Tag.Get("toml")
		if name == "" {
			continue
		}
		if key == name {
			return table.Field(i)
		}
		if rest, ok := strings.CutPrefix(key, name+"."); ok {
			return at(table.Field(i), rest)
		}
	}
	panic(key)
}

// alter gives a key another value, of those that can be used.
func alter(t *testing.T, v reflect.Value, key, file string) {
	t.Helper()
	switch {
	case key == "log.level":
		v.SetString("debug")
	case key == "default_runtime":
		v.SetString("other")
	case v.Kind() == reflect.String:
		v.SetString(file)
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.CanFloat():
		v.SetFloat(v.Float() / 2)
	case v.CanInt():
		v.SetInt(v.Int() + 1)
	case v.CanFloat():
		v.SetFloat(v.Float() + 0.5)
	case v.Type() == reflect.TypeFor[config.Duration]():
		v.Field(0).SetInt(v.Field(0).Int() + 1)
	case v.Type() == reflect.TypeFor[[]string]():
		v.Set(reflect.ValueOf([]string{"/another"}))
	case v.Kind() == reflect.Map:
		m := reflect.MakeMap(v.Type())
		for _, k := range v.MapKeys() {
			m.SetMapIndex(k, v.MapIndex(k))
		}
		m.SetMapIndex(reflect.ValueOf("another"), reflect.Zero(v.Type().Elem()))
		v.Set(m)
	default:
		t.Fatalf("%s: how is a %s changed?", key, v.Type())
	}
}
