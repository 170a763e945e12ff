package main

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/berth-cri/berth/test/images"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

func serve(programs []string) error {
	registry := images.Serve()
	base, err := images.Busybox()
	if err != nil {
		return err
	}
	config := v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}
	if err := registry.Push("test/busybox:1", config, base); err != nil {
		return err
	}
	for _, arg := range programs {
		name, file, _ := strings.Cut(arg, "=")
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		layer, err := images.Layer(images.File{Header: tar.Header{Typeflag: tar.TypeReg, Name: name}, Content: content})
		if err != nil {
			return err
		}
		config.Entrypoint, config.Cmd = []string{"/" + name}, nil
		if err := registry.Push("test/"+name+":1", config, base, layer); err != nil {
			return err
		}
	}
	fmt.Println(registry.URL)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
