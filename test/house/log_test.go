package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// otherNames are keys that have another name in every log line of Berth: who
// looks for a container looks for one word.
var otherNames = map[string]string{
	"err": "error", "containerID": "container", "container_id": "container", "containerId": "container", "ctr": "container",
	"podID": "pod", "pod_id": "pod", "sandbox": "pod", "sandboxID": "pod", "imageRef": "image", "traceID": "trace_id", "method": "rpc",
}

var logCalls = map[string]bool{
	"Debug": true, "Info": true, "Warn": true, "Error": true, "With": true,
	"DebugContext": true, "InfoContext": true, "WarnContext": true, "ErrorContext": true,
}

func TestLogKeys(t *testing.T) {
	seen := 0
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if s, ok := call.Fun.(*ast.SelectorExpr); !ok || !logCalls[s.Sel.Name] {
				return true
			}
			for _, arg := range call.Args {
				lit, ok := arg.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					continue
				}
				seen++
				if key, err := strconv.Unquote(lit.Value); err == nil && otherNames[key] != "" {
					t.Errorf("%s: the key %q is %q elsewhere", files.Position(lit.Pos()), key, otherNames[key])
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 100 {
		t.Errorf("only %d words in log calls were found", seen)
	}
}
