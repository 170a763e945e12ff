package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// treeTar packs a part of the Go installation, which is there wherever this
// runs: "src" is thousands of small files, "pkg/tool" a few large ones.
func treeTar(b *testing.B, sub string, limit int) []byte {
	b.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Skip("no tree to pack: ", err)
	}
	root := filepath.Join(strings.TrimSpace(string(goroot)), sub)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || out.Len() > limit {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		h, err := tar.FileInfoHeader(fi, "")
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		h.Name, _ = filepath.Rel(root, path)
		if err := w.WriteHeader(h); err != nil || e.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
	if err != nil || out.Len() == 0 {
		b.Skip("no tree to pack: ", err)
	}
	w.Close()
	return out.Bytes()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkUnpack tells MB/s of the tar, and the CPU time of all stages per MB.
// BERTH_BENCH_DIR chooses the file system.
func BenchmarkUnpack(b *testing.B) {
	for _, tree := range []string{"src", "pkg/tool"} {
		plain := treeTar(b, tree, 96<<20)
		var gz, zs bytes.Buffer
		gw := gzip.NewWriter(&gz)
		gw.Write(plain)
		gw.Close()
		zw, _ := zstd.NewWriter(&zs)
		zw.Write(plain)
		zw.Close()
		for _, blob := range []struct {
			name string
			data []byte
		}{{"plain", plain}, {"gzip", gz.Bytes()}, {"zstd", zs.Bytes()}} {
			b.Run(tree+"/"+blob.name, func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				parent, err := os.MkdirTemp(os.Getenv("BERTH_BENCH_DIR"), "bench-")
				if err != nil {
					b.Fatal(err)
				}
				defer os.RemoveAll(parent)
				linux.SpreadDirs(parent) // as the store does
				cpu := cpuTime()
				for b.Loop() {
					dir, err := os.MkdirTemp(parent, "layer-")
					if err != nil {
						b.Fatal(err)
					}
					if _, err := Unpack(context.Background(), bytes.NewReader(blob.data), dir, Options{}); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					os.RemoveAll(dir)
					b.StartTimer()
				}
				b.ReportMetric(float64(cpuTime()-cpu)/1e6/float64(b.N)/(float64(len(plain))/1e6), "cpu-ms/MB")
			})
		}
	}
}
