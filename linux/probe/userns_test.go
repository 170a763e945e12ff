package probe

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestUserNamespacesAt(t *testing.T) {
	dir := t.TempDir()
	if got, want := UserNamespacesAt(dir+"/not/yet"), OverlayAt(dir).IDMapped; got != want {
		t.Errorf("%+v, by itself %+v", want, got)
	}
	// No overlay layer and no id-mapped mount is to be had there.
	if f := UserNamespacesAt("/proc"); f.OK || f.Why == "" {
		t.Errorf("on procfs: %+v", f)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestRemoveLeftovers(t *testing.T) {
	dir := t.TempDir()
	long := time.Now().Add(-time.Hour)
	for _, name := range []string{tryPrefix + "old", tryPrefix + "busy", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "plain", "upper"), 0o755); err != nil {
			t.Fatal(err)
		}
		if name != tryPrefix+"busy" {
			os.Chtimes(filepath.Join(dir, name), long, long)
		}
	}
	if err := RemoveLeftovers(dir); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 || left[0].Name() != tryPrefix+"busy" || left[1].Name() != "other" {
		t.Errorf("left: %v, %v; want what is no try, and the try of now", left, err)
	}
	if err := RemoveLeftovers(filepath.Join(dir, "not", "there")); err != nil {
		t.Error(err)
	}
}

func BenchmarkUserNamespacesAt(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		UserNamespacesAt(dir)
	}
}
