package probe

import (
	"os"
	"testing"
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

func BenchmarkUserNamespacesAt(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		UserNamespacesAt(dir)
	}
}
