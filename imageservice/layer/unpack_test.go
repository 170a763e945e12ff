package layer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func gzipped(parts ...[]byte) []byte {
	var b bytes.Buffer
	for _, p := range parts {
		w := gzip.NewWriter(&b)
		w.Write(p)
		w.Close()
	}
	return b.Bytes()
}

func zstdOf(data []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(data, nil)
}

func TestBlobs(t *testing.T) {
	plain := pack(t, folder("d"), file("d/f", strings.Repeat("0123456789abcdef", 40_000)))
	padded := append(bytes.Clone(plain), make([]byte, 700_000)...)
	half := len(plain) / 2
	for _, c := range []struct {
		name  string
		blob  []byte
		plain []byte
		media string
	}{
		{"plain", plain, plain, "application/vnd.oci.image.layer.v1.tar"},
		{"gzip", gzipped(plain), plain, "application/vnd.oci.image.layer.v1.tar+gzip"},
		{"gzip of Docker", gzipped(plain), plain, "application/vnd.docker.image.rootfs.diff.tar.gzip"},
		{"gzip in several members, as eStargz has it", gzipped(plain[:half], plain[half:]), plain, ""},
		{"zstd", zstdOf(plain), plain, "application/vnd.oci.image.layer.v1.tar+zstd"},
		{"zstd that is said to be gzip", zstdOf(plain), plain, "application/vnd.docker.image.rootfs.diff.tar.gzip"},
		{"zstd with a skippable frame behind", append(zstdOf(plain), 0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4), plain, ""},
		{"padding behind the end", gzipped(padded), padded, ""},
		{"foreign layer", gzipped(plain), plain, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			opts := Options{Digest: digest.FromBytes(c.blob), Size: int64(len(c.blob)), DiffID: digest.FromBytes(c.plain), MediaType: c.media}
			var down, up int64
			opts.Progress = func(d, u int64) {
				if d < down || u < up {
					t.Errorf("progress goes back: %d %d after %d %d", d, u, down, up)
				}
				down, up = d, u
			}
			res, err := s.unpack(t, c.blob, opts)
			if err != nil {
				t.Fatal(err)
			}
			if res.Digest != opts.Digest || res.DiffID != opts.DiffID || res.Compressed != opts.Size {
				t.Fatalf("%+v", res)
			}
			if down != int64(len(c.blob)) || up != int64(len(c.plain)) {
				t.Fatalf("progress ended at %d, %d", down, up)
			}
			// The same without knowing what comes.
			if res2, err := newStage(t).unpack(t, c.blob, Options{}); err != nil || res2.DiffID != res.DiffID || res2.Digest != res.Digest {
				t.Fatalf("%+v, %v", res2, err)
			}
		})
	}
}

func TestRefusedBlobs(t *testing.T) {
	plain := pack(t, file("f", strings.Repeat("0123456789abcdef", 40_000)))
	blob := gzipped(plain)
	other := digest.FromString("other")
	for _, c := range []struct {
		name string
		blob []byte
		opts Options
		is   func(error) bool
	}{
		{"wrong digest", blob, Options{Digest: other}, errdefs.IsDataLoss},
		{"wrong diff id", blob, Options{DiffID: other}, errdefs.IsDataLoss},
		{"shorter than it should be", blob, Options{Size: int64(len(blob)) + 1}, errdefs.IsDataLoss},
		{"longer than it should be", blob, Options{Size: int64(len(blob)) - 1}, errdefs.IsDataLoss},
		{"garbage behind the gzip", append(bytes.Clone(blob), "garbage garbage"...), Options{}, errdefs.IsDataLoss},
		{"a changed byte", flipped(blob, len(blob)/2), Options{}, errdefs.IsDataLoss},
		{"a changed checksum", flipped(blob, len(blob)-6), Options{}, errdefs.IsDataLoss},
		{"not a tar", gzipped([]byte(strings.Repeat("nonsense", 1000))), Options{}, errdefs.IsDataLoss},
		{"HTML of a login page", []byte("<html>" + strings.Repeat("please log in ", 100)), Options{}, errdefs.IsDataLoss},
		{"zstd cut short", zstdOf(plain)[:200], Options{}, errdefs.IsDataLoss},
		{"plain tar cut short", plain[:len(plain)/2], Options{}, errdefs.IsDataLoss},
		{"a gzip header and no more", blob[:5], Options{}, errdefs.IsDataLoss},
		{"a bad gzip header", []byte("\x1f\x8b\b(\xb4\xfd\xec\xd5\x10\x83\xcf"), Options{}, errdefs.IsDataLoss},
		{"xz", []byte("\xfd7zXZ\x00 and so on"), Options{}, errdefs.IsNotImplemented},
		{"bzip2", []byte("BZh91AY and so on"), Options{}, errdefs.IsNotImplemented},
		{"encrypted", blob, Options{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"}, errdefs.IsNotImplemented},
		{"not a layer", blob, Options{MediaType: "application/vnd.in-toto+json"}, errdefs.IsNotImplemented},
		{"a digest that is none", blob, Options{Digest: "sha256:xyz"}, errdefs.IsInvalidArgument},
		{"bomb of zeros", gzipped(make([]byte, 8<<20)), Options{Limits: Limits{Size: 1 << 20}}, errdefs.IsResourceExhausted},
		{"bomb in a file", gzipped(pack(t, file("zeros", strings.Repeat("\x00", 8<<20)))), Options{Limits: Limits{Size: 1 << 20}}, errdefs.IsResourceExhausted},
		{"bomb behind the end", gzipped(append(bytes.Clone(plain), make([]byte, 8<<20)...)), Options{Limits: Limits{Size: 1 << 20}}, errdefs.IsResourceExhausted},
		{"bomb of holes", sparseBomb(t), Options{}, errdefs.IsResourceExhausted},
		{"too many entries", pack(t, file("a", ""), file("b", ""), file("c", "")), Options{Limits: Limits{Entries: 2}}, errdefs.IsResourceExhausted},
		{"a path over the limit", pack(t, file("a/b/c", "")), Options{Limits: Limits{Path: 4}}, errdefs.IsInvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newStage(t).unpack(t, c.blob, c.opts)
			if !c.is(err) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x10
	return b
}

// sparseBomb is a file of 1 EiB in an old GNU sparse header: 1 KiB of archive.
func sparseBomb(t *testing.T) []byte {
	b := pack(t, file("bomb", ""))
	h := b[:512]
	copy(h[257:265], "ustar  \x00")
	h[156] = 'S'
	number := func(at int, n uint64) {
		h[at] = 0x80
		for i := range 8 {
			h[at+11-i] = byte(n >> (8 * i))
		}
	}
	number(386, 1<<60) // one data region of no bytes, at the very end
	number(398, 0)
	number(483, 1<<60) // the size of the file
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], []byte{'0' + byte(sum>>15&7), '0' + byte(sum>>12&7), '0' + byte(sum>>9&7), '0' + byte(sum>>6&7), '0' + byte(sum>>3&7), '0' + byte(sum&7), 0, ' '})
	return b
}

// A blob cut anywhere is never taken for whole, even if nobody knows its digest.
func TestTruncatedGzip(t *testing.T) {
	blob := gzipped(pack(t, folder("d"), file("d/f", strings.Repeat("some text ", 3000))))
	for n := range len(blob) {
		if _, err := newStage(t).unpack(t, blob[:n], Options{}); n > 0 && !errdefs.IsDataLoss(err) {
			t.Fatalf("%d of %d bytes: %v", n, len(blob), err)
		}
	}
}

type brokenReader struct {
	io.Reader
	err error
}

func (r brokenReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		err = r.err
	}
	return n, err
}

// What breaks the connection is told as it is, so that the pull can go on with it.
func TestErrorOfTheSource(t *testing.T) {
	plain := pack(t, file("f", strings.Repeat("0123456789abcdef", 40_000)))
	for _, cause := range []error{errors.New("connection reset"), io.ErrUnexpectedEOF} {
		for _, blob := range [][]byte{plain, gzipped(plain), zstdOf(plain)} {
			for _, cut := range []int{0, 3, len(blob) / 2, len(blob)} {
				r := brokenReader{bytes.NewReader(blob[:cut]), cause}
				_, err := Unpack(context.Background(), r, t.TempDir(), Options{})
				if !errors.Is(err, cause) || errdefs.IsDataLoss(err) {
					t.Fatalf("cut at %d: %v", cut, err)
				}
			}
		}
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("no tmpfs: ", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	blob := pack(t, file("f", strings.Repeat("x", 1<<20)))
	_, err := Unpack(context.Background(), bytes.NewReader(blob), dir, Options{})
	if !errdefs.IsResourceExhausted(err) {
		t.Fatal(err)
	}
}

// A reader that stalls for ever is closed, and everything that Unpack started ends.
func TestCancelInTheMiddle(t *testing.T) {
	blob := gzipped(pack(t, file("a", strings.Repeat("0123456789abcdef", 400_000)), file("b", "b")))
	fds, routines := openFiles(t), runtime.NumGoroutine()
	for _, cut := range []int{0, 1, len(blob) / 2, len(blob) - 1} {
		ctx, cancel := context.WithCancelCause(context.Background())
		r, w := io.Pipe()
		go func() {
			w.Write(blob[:cut])
			cancel(errors.New("the kubelet went away"))
		}()
		_, err := Unpack(ctx, r, t.TempDir(), Options{})
		if err == nil || !strings.Contains(err.Error(), "the kubelet went away") {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	for range 100 { // the writers above end on their own
		if runtime.NumGoroutine() <= routines {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > routines {
		t.Errorf("%d goroutines, were %d", n, routines)
	}
	if n := openFiles(t); n > fds {
		t.Errorf("%d descriptors, were %d", n, fds)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestThousandDirectoriesStayWithinTheDescriptors(t *testing.T) {
	var entries []entry
	for i := range 1000 {
		entries = append(entries, file(strings.Repeat("d/", i%7)+string(rune('a'+i%26))+"/"+strings.Repeat("n", i/26+1)+"/f", "x"))
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = uint64(openFiles(t) + maxOpen + 20)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if _, err := newStage(t).unpack(t, pack(t, entries...), Options{}); err != nil {
		t.Fatal(err)
	}
}
