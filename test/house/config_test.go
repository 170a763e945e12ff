package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-cri/berth/config"
)

// TestEveryKeyReachesTheDaemon looks for each field of the configuration in
// cmd/berth, where everything is wired: a key that nobody reads would be
// accepted and ignored.
func TestEveryKeyReachesTheDaemon(t *testing.T) {
	files, err := filepath.Glob("../../cmd/berth/*.go")
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				read[sel.Sel.Name] = true
			}
			return true
		})
	}
	// Read by methods of the configuration itself.
	for field, method := range map[string]string{"Level": "SlogLevel", "Monitor": "MonitorPath", "Init": "InitPath", "SocketPath": "NRISocket"} {
		read[field] = read[method]
	}
	walk(reflect.TypeFor[config.Config](), func(field reflect.StructField) {
		if !read[field.Name] {
			t.Errorf("nobody in cmd/berth reads the key %s (field %s)", field.Tag.Get("toml"), field.Name)
		}
	})
}

// walk calls leaf for each setting below a struct of the configuration.
func walk(typ reflect.Type, leaf func(reflect.StructField)) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		tables := f.Type.PkgPath() == typ.PkgPath() && f.Type.Kind() == reflect.Struct && hasTables(f.Type)
		switch {
		case !f.IsExported():
		case tables:
			walk(f.Type, leaf)
		default:
			leaf(f)
		}
	}
}

// hasTables tells a table from a value such as a duration.
func hasTables(typ reflect.Type) bool {
	return typ.NumField() > 0 && typ.Field(0).Tag.Get("toml") != "-"
}
