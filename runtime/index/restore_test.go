package index

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestRestore(t *testing.T) {
	root := t.TempDir()
	for dir, content := range map[string]string{"a": "good", "b": "bad", "c": "", "d": "good"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if content != "" {
			if err := os.WriteFile(filepath.Join(root, dir, "record"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	load := func(dir string) (string, error) {
		b, err := os.ReadFile(filepath.Join(dir, "record"))
		if string(b) == "bad" {
			err = errors.New("cannot be read")
		}
		return filepath.Base(dir), err
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	got, err := Restore(root, "record", load, os.RemoveAll, log)
	if err != nil || !slices.Equal(got, []string{"a", "d"}) {
		t.Fatalf("%v, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(root, "b", "record.broken")); err != nil {
		t.Errorf("not set aside: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "c")); !os.IsNotExist(err) {
		t.Errorf("a directory without record is still there: %v", err)
	}
}
