package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	problems, err := check(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "doccheck:", err)
		os.Exit(1)
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}

// check walks the module below root and returns what breaks a rule, sorted by
// place.
func check(root string) ([]string, error) {
	var problems []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			return nil
		}
		name := d.Name()
		if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
			return filepath.SkipDir
		}
		if path != root && exists(filepath.Join(path, "go.mod")) {
			return filepath.SkipDir // a module of its own
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		found, err := checkPackage(path, filepath.ToSlash(rel))
		problems = append(problems, found...)
		return err
	})
	slices.Sort(problems)
	return problems, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// checkPackage applies all rules to the Go files of one directory.
func checkPackage(dir, rel string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		return nil, err
	}
	fset := token.NewFileSet()
	var problems []string
	var doc *ast.File
	for _, file := range files {
		f, err := parser.ParseFile(fset, file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		if filepath.Base(file) == "doc.go" {
			doc = f
		}
		if !strings.HasSuffix(file, "_test.go") {
			problems = append(problems, forbiddenCalls(fset, rel, f)...)
		}
	}
	return append(problems, packageDoc(rel, doc)...), nil
}
