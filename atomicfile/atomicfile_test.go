package atomicfile

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestReaderNeverSeesAPart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	big := [2][]byte{bytes.Repeat([]byte("a"), 1<<16), bytes.Repeat([]byte("b"), 1<<15)}
	if err := WriteDurable(path, big[0], 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for i := range 200 {
			if err := Write(path, big[i%2], 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	for {
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(b, big[0]) && !bytes.Equal(b, big[1]) {
			t.Fatalf("read %d bytes, %v", len(b), err)
		}
		select {
		case <-done:
			wg.Wait()
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".tmp-*")); len(left) != 0 {
				t.Fatalf("left behind: %v", left)
			}
			return
		default:
		}
	}
}

func TestWriteFailureLeavesTheOldRecord(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "record")
	if err := os.MkdirAll(filepath.Join(target, "in-the-way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(target, []byte("x"), 0o600); err == nil {
		t.Fatal("renamed over a directory with content")
	}
	if e, _ := os.ReadDir(dir); len(e) != 1 {
		t.Fatalf("left behind: %v", e)
	}
}

func TestJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	want := map[string]string{"a": "b"}
	if err := WriteJSON(path, want); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", fi.Mode(), err)
	}
	var got map[string]string
	if err := ReadJSON(path, &got); err != nil || got["a"] != "b" {
		t.Fatalf("%v, %v", got, err)
	}
	if err := os.Truncate(path, MaxRecord+1); err != nil {
		t.Fatal(err)
	}
	if err := ReadJSON(path, &got); err == nil {
		t.Fatal("read a record over the limit")
	}
}
