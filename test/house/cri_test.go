package house

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// row is a line of a table in docs/cri.md: `NAME` | what is done | `TestName`, ….
type row struct {
	name  string // Message.field, or an RPC
	does  string
	tests []string
}

var (
	rowLine   = regexp.MustCompile("^\\| `([^`]+)` \\| (.+) \\| ([^|]+) \\|$")
	testNames = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
)

// tablesOf reads the rows of docs/cri.md: those under "### Message" are its
// fields, of which `*` stands for all.
func tablesOf(t *testing.T, all map[string][]string) []row {
	t.Helper()
	text, err := os.ReadFile("../../docs/cri.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	message := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			name, ok := strings.CutPrefix(line, "### ")
			if message = ""; ok {
				message = name + "."
			}
		}
		m := rowLine.FindStringSubmatch(line)
		if m == nil {
			if strings.HasPrefix(line, "| `") {
				t.Errorf("not a row of three columns: %s", line)
			}
			continue
		}
		var tests []string
		for _, n := range testNames.FindAllStringSubmatch(m[3], -1) {
			tests = append(tests, n[1])
		}
		if len(tests) == 0 && m[3] != "–" {
			t.Errorf("%s%s: neither a test nor –: %q", message, m[1], m[3])
		}
		names := []string{m[1]}
		if m[1] == "*" {
			names = all[strings.TrimSuffix(message, ".")]
		}
		for _, n := range names {
			rows = append(rows, row{message + n, m[2], tests})
		}
	}
	return rows
}

// criNames are the RPCs and then the fields of the protobuf, in its order.
func criNames() (names []string, fields map[string][]string) {
	file := runtimeapi.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto
	for i := range file.Services().Len() {
		methods := file.Services().Get(i).Methods()
		for j := range methods.Len() {
			names = append(names, string(methods.Get(j).Name()))
		}
	}
	fields = map[string][]string{}
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		for j := range m.Fields().Len() {
			f := string(m.Fields().Get(j).Name())
			fields[string(m.Name())] = append(fields[string(m.Name())], f)
			names = append(names, string(m.Name())+"."+f)
		}
		for j := range m.Messages().Len() {
			if inner := m.Messages().Get(j); !inner.IsMapEntry() {
				names = append(names, "a message within a message: "+string(inner.FullName())) // there is none, and no table for one
			}
		}
	}
	return names, fields
}

func TestEveryFieldOfTheCRIHasItsRow(t *testing.T) {
	want, fields := criNames()
	rows := tablesOf(t, fields)
	var got []string
	for _, r := range rows {
		if slices.Contains(got, r.name) {
			t.Errorf("docs/cri.md has two rows for %s", r.name)
		}
		if len(strings.Fields(r.does)) == 0 {
			t.Errorf("docs/cri.md says nothing of %s", r.name)
		}
		got = append(got, r.name)
	}
	for _, n := range want {
		if !slices.Contains(got, n) {
			t.Errorf("docs/cri.md has no row for %s", n)
		}
	}
	for _, n := range got {
		if !slices.Contains(want, n) {
			t.Errorf("docs/cri.md: the CRI has no %s", n)
		}
	}
	if !t.Failed() && !slices.Equal(got, want) {
		t.Error("docs/cri.md is not in the order of api.proto")
	}
	if len(want) < 400 {
		t.Errorf("only %d RPCs and fields were found", len(want))
	}
}

func TestTheTestsOfTheCRIsTableExist(t *testing.T) {
	have := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			have[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, fields := criNames()
	for _, r := range tablesOf(t, fields) {
		for _, name := range r.tests {
			if !have[name] {
				t.Errorf("docs/cri.md: %s names %s, and there is no such test", r.name, name)
			}
		}
	}
}
