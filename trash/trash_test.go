package trash

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestDiscardFreesTheNameAtOnce(t *testing.T) {
	root := t.TempDir()
	bin, err := Open(filepath.Join(root, "trash"))
	if err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(root, "tree")
	for range 3 { // the same name again and again
		if err := os.MkdirAll(filepath.Join(tree, "deep", "er"), 0o700); err != nil {
			t.Fatal(err)
		}
		held, err := os.Open(filepath.Join(tree, "deep"))
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		if err := bin.Discard(tree); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(tree); !os.IsNotExist(err) {
			t.Fatalf("still there: %v", err)
		}
	}
	if err := bin.Discard(tree); err != nil {
		t.Fatalf("nothing to discard: %v", err)
	}
	if e, _ := os.ReadDir(bin.dir); len(e) != 3 {
		t.Fatalf("bin holds %d things", len(e))
	}
	if err := bin.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	if e, _ := os.ReadDir(bin.dir); len(e) != 0 {
		t.Fatalf("left in the bin: %v", e)
	}
}
