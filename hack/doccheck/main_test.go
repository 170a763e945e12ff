package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodDoc = "// Package x is.\n//\n// Owns: x.\n//\n// May import: nothing.\npackage x\n"

func TestRules(t *testing.T) {
	tests := []struct {
		situation string
		files     map[string]string
		want      string // in the only problem; "" for none
	}{
		{"all well", map[string]string{"x/doc.go": goodDoc}, ""},
		{"no doc.go", map[string]string{"x/x.go": "package x\n"}, "x: no doc.go"},
		{"owns nothing", map[string]string{"x/doc.go": "// Package x is.\n//\n// May import: y.\npackage x\n"}, "x/doc.go: the package comment has no line like \"(?m)^Owns"},
		{"a name that says nothing", map[string]string{"util/doc.go": goodDoc}, "util: the package name says nothing"},
		{"another module", map[string]string{"x/go.mod": "module x\n", "x/x.go": "package x\n"}, ""},
		{"a gRPC status in a handler", map[string]string{
			"cri/doc.go": goodDoc,
			"cri/a.go":   "package x\nimport \"google.golang.org/grpc/status\"\nvar err = status.Errorf(1, \"x\")\n",
		}, "a.go:3:11: status.Errorf: errors get their gRPC code in cri/interceptor"},
		{"a gRPC status under another name", map[string]string{
			"cri/doc.go": goodDoc,
			"cri/a.go":   "package x\nimport st \"google.golang.org/grpc/status\"\nvar err = st.New(1, \"x\")\n",
		}, "st.New: "},
		{"a gRPC status where it belongs", map[string]string{
			"cri/interceptor/doc.go": goodDoc,
			"cri/interceptor/a.go":   "package x\nimport \"google.golang.org/grpc/status\"\nvar err = status.Errorf(1, \"x\")\n",
		}, ""},
		{"a mount of one's own", map[string]string{
			"runtime/x/doc.go": goodDoc,
			"runtime/x/a.go":   "package x\nimport \"golang.org/x/sys/unix\"\nvar f = unix.Mount\n",
		}, "unix.Mount: package linux wraps it"},
		{"a mount in a test", map[string]string{
			"runtime/x/doc.go":    goodDoc,
			"runtime/x/a_test.go": "package x\nimport \"golang.org/x/sys/unix\"\nvar f = unix.Mount\n",
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.situation, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tt.files {
				file := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := check(root)
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(got, "\n")
			if tt.want == "" && all != "" || len(got) > 1 || !strings.Contains(all, tt.want) {
				t.Errorf("got %q, want %q", all, tt.want)
			}
		})
	}
}
