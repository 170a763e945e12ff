package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// forbiddenNames say nothing about what a package owns.
var forbiddenNames = []string{"util", "utils", "common", "helper", "helpers", "base", "misc"}

var (
	owns      = regexp.MustCompile(`(?m)^Owns\b.*:`) // "Owns, below the root directory:" is one
	mayImport = regexp.MustCompile(`(?m)^May import\b.*:`)
)

// packageDoc wants doc.go to say what the package owns and what it may import.
func packageDoc(rel string, doc *ast.File) []string {
	var problems []string
	if slices.Contains(forbiddenNames, path.Base(rel)) {
		problems = append(problems, fmt.Sprintf("%s: the package name says nothing about what it owns", rel))
	}
	if doc == nil {
		return append(problems, fmt.Sprintf("%s: no doc.go", rel))
	}
	for _, line := range []*regexp.Regexp{owns, mayImport} {
		if !line.MatchString(doc.Doc.Text()) {
			problems = append(problems, fmt.Sprintf("%s/doc.go: the package comment has no line like %q", rel, line))
		}
	}
	return problems
}

// onlyIn says that functions of a package are called below some folders only.
type onlyIn struct {
	pkg     string
	funcs   []string
	folders []string
	why     string
}

var mountCalls = []string{
	"Mount", "Unmount", "MoveMount", "OpenTree", "Fsopen", "Fsmount", "Fsconfig", "MountSetattr", "PivotRoot",
	"Setns", "Unshare", "PidfdOpen", "PidfdSendSignal",
}

// systemCalls are the folders that may make such calls themselves. The
// embedded runtime's init does: linking less is how it starts in a
// millisecond. cni/netns enters a namespace for as long as a plugin runs in it.
var systemCalls = []string{"linux", "runtime/oci/embedded", "cmd/berth-init", "cni/netns", "cni/nettest", "test", "hack"}

var calls = []onlyIn{
	{
		pkg: "google.golang.org/grpc/status", funcs: []string{"Error", "Errorf", "New", "Newf"},
		folders: []string{"cri/interceptor", "test"},
		why:     "errors get their gRPC code in cri/interceptor, once; return an error of a kind of errdefs",
	},
	{
		pkg: "golang.org/x/sys/unix", funcs: mountCalls, folders: systemCalls,
		why: "package linux wraps it, with EINTR retried and the call's name in the error",
	},
	{
		pkg: "syscall", funcs: mountCalls, folders: systemCalls,
		why: "package linux wraps it, with EINTR retried and the call's name in the error",
	},
}

// forbiddenCalls finds calls outside of the folders that they belong to.
func forbiddenCalls(fset *token.FileSet, rel string, f *ast.File) []string {
	rules := map[string]onlyIn{} // by the name of the import in this file
	for _, imp := range f.Imports {
		pkg, _ := strconv.Unquote(imp.Path.Value)
		name := path.Base(pkg)
		if imp.Name != nil {
			name = imp.Name.Name
		}
		for _, rule := range calls {
			if rule.pkg == pkg && !below(rel, rule.folders) {
				rules[name] = rule
			}
		}
	}
	if len(rules) == 0 {
		return nil
	}
	var problems []string
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		if rule, ok := rules[x.Name]; ok && slices.Contains(rule.funcs, sel.Sel.Name) {
			problems = append(problems, fmt.Sprintf("%s: %s.%s: %s", fset.Position(sel.Pos()), x.Name, sel.Sel.Name, rule.why))
		}
		return true
	})
	return problems
}

func below(rel string, folders []string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool {
		return rel == folder || strings.HasPrefix(rel, folder+"/")
	})
}
