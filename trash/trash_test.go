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

// A sweep between the steps of a Discard must not make it believe that there is
// nothing to discard.
func TestDiscardWhileSweeping(t *testing.T) {
	root := t.TempDir()
	bin, err := Open(filepath.Join(root, "trash"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		for ctx.Err() == nil {
			if err := bin.Sweep(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	}()
	for i := range 2000 {
		tree := filepath.Join(root, "tree")
		if err := os.Mkdir(tree, 0o700); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if err := bin.Discard(tree); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-swept
}
