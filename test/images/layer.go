package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// File is an entry of a layer. A mode of 0 is 0755.
type File struct {
	tar.Header
	Content []byte
}

// Layer is a layer of these files, in this order.
func Layer(files ...File) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		f.Size = int64(len(f.Content))
		if f.Mode == 0 {
			f.Mode = 0o755
		}
		if err := w.WriteHeader(&f.Header); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if _, err := w.Write(f.Content); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
}

// Busybox is a root file system of Debian's static busybox, with the users root
// and app.
func Busybox() (v1.Layer, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("%w (apt-get install busybox-static)", err)
	}
	bin, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, err
	}
	var files []File
	add := func(kind byte, name, target string, mode int64, content []byte) {
		files = append(files, File{tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: mode}, content})
	}
	for _, dir := range []string{"bin", "etc", "tmp", "root", "home", "home/app", "var", "dev", "proc", "sys"} {
		add(tar.TypeDir, dir+"/", "", map[bool]int64{true: 0o1777}[dir == "tmp"], nil)
	}
	add(tar.TypeReg, "bin/busybox", "", 0, bin)
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			add(tar.TypeLink, "bin/"+applet, "bin/busybox", 0, nil)
		}
	}
	add(tar.TypeReg, "etc/group", "", 0o644, []byte("root:x:0:\nstaff:x:50:app\nextra:x:60:app\n"))
	add(tar.TypeReg, "etc/not-a-prog", "", 0o644, []byte("just text\n"))
	add(tar.TypeReg, "etc/passwd", "", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"))
	return Layer(files...)
}
