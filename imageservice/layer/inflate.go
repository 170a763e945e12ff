package layer

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a zstd frame may ask for: what "zstd -d"
// grants without --long.
const maxWindow = 128 << 20

var magics = []struct {
	prefix, name string
	open         func(*bufio.Reader) (io.Reader, func(), error)
}{
	{"\x1f\x8b\x08", "gzip", openGzip},
	{"\x28\xb5\x2f\xfd", "zstd", openZstd},
	{"\xfd7zXZ\x00", "xz", nil},
	{"BZh", "bzip2", nil},
}

// inflate decompresses by the magic of the blob; what has none is a plain tar.
func inflate(out, in *pipe) error {
	br := bufio.NewReaderSize(in, 64<<10)
	head, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return err
	}
	name, r := "tar", io.Reader(br)
	for _, m := range magics {
		if !bytes.HasPrefix(head, []byte(m.prefix)) {
			continue
		}
		if m.open == nil {
			return fmt.Errorf("layer compressed by %s: %w", m.name, errdefs.ErrNotImplemented)
		}
		z, done, err := m.open(br)
		if err != nil {
			return blame(in, m.name, err)
		}
		defer done()
		name, r = m.name, z
	}
	return blame(in, name, out.copy(r, func([]byte) error { return nil }))
}

// blame tells a blob that cannot be decompressed from a source that failed.
func blame(in *pipe, name string, err error) error {
	if err == nil || in.failed != nil || in.ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("inflate %s: %w: %w", name, err, errdefs.ErrDataLoss)
}

var gzips sync.Pool

// openGzip takes klauspost's inflater as it is. pgzip's read-ahead is what the
// pipeline does anyway; measured alone on 2 cores: 206 against 211 MB/s and 4.9
// against 5.1 ms of CPU per MB (binaries), 366 against 395 MB/s and 2.8 against
// 2.8 ms (sources); the standard library 156 and 313 MB/s.
func openGzip(br *bufio.Reader) (io.Reader, func(), error) {
	z, ok := gzips.Get().(*gzip.Reader)
	if !ok {
		z = new(gzip.Reader)
	}
	if err := z.Reset(br); err != nil {
		return nil, nil, err
	}
	return z, func() { gzips.Put(z) }, nil
}

func openZstd(br *bufio.Reader) (io.Reader, func(), error) {
	z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, nil, err
	}
	return z, z.Close, nil
}

// layerType reports whether a media type is a layer's. Foreign layers are
// layers: whether their URLs are used is for the caller to say.
func layerType(t string) bool {
	for _, prefix := range []string{
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar",
	} {
		if rest, ok := strings.CutPrefix(t, prefix); ok {
			switch rest {
			case "", ".gzip", "+gzip", ".zstd", "+zstd":
				return true
			}
		}
	}
	return false
}
