package layer

import (
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestUnpackGivesBackWhatTarPacked(t *testing.T) {
	var out bytes.Buffer
	tarCmd := exec.Command("tar", "-C", "/usr/share", "-c", "doc/bash", "zoneinfo/Europe", "man/man1")
	tarCmd.Stdout = &out
	if err := tarCmd.Run(); err != nil {
		t.Skip("no tar: ", err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(out.Bytes())
	w.Close()
	dir := t.TempDir()
	res, err := Unpack(context.Background(), bytes.NewReader(z.Bytes()), dir, Options{
		Digest: digest.FromBytes(z.Bytes()), DiffID: digest.FromBytes(out.Bytes()), Size: int64(z.Len()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", res)
	for _, sub := range []string{"doc/bash", "zoneinfo/Europe", "man/man1"} {
		if b, err := exec.Command("diff", "-r", "--no-dereference", filepath.Join(dir, sub), filepath.Join("/usr/share", sub)).CombinedOutput(); err != nil {
			t.Fatalf("%s: %s", sub, b)
		}
	}
	_ = os.Stdout
}
