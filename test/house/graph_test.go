package house

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/berth-cri/berth/"

// listed is a package as go list tells it; tests of packages do not count.
type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// graph is every package of the module and all they need, by import path.
func graph(t *testing.T) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,Standard", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]listed{}
	dec := json.NewDecoder(out)
	for {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("go list: %v", err)
	}
	return packages
}

// own returns the packages of the module that the table is about, as folders.
func own(packages map[string]listed) []string {
	var folders []string
	for path := range packages {
		folder, ok := strings.CutPrefix(path, module)
		if ok && !below(folder, "test") && !below(folder, "hack") {
			folders = append(folders, folder)
		}
	}
	slices.Sort(folders)
	return folders
}

func below(folder, parent string) bool {
	return folder == parent || strings.HasPrefix(folder, parent+"/")
}

// level finds the line of the table for a folder.
func level(folder string) (int, bool) {
	for f := folder; f != "."; f = filepath.Dir(f) {
		if l, ok := levels[f]; ok {
			return l, true
		}
	}
	return 0, false
}

func TestImportsPointDown(t *testing.T) {
	packages := graph(t)
	for _, folder := range own(packages) {
		from, ok := level(folder)
		if !ok {
			t.Errorf("%s has no level: give it a line in table.go", folder)
			continue
		}
		for _, imp := range packages[module+folder].Imports {
			target, ok := strings.CutPrefix(imp, module)
			if !ok {
				continue
			}
			to, known := level(target)
			switch {
			case !known:
				t.Errorf("%s imports %s, which is not for the programs", folder, target)
			case to > from:
				t.Errorf("%s (level %d) imports %s (level %d): imports point down", folder, from, target, to)
			case to == from && !slices.Contains(beside[folder], target):
				t.Errorf("%s imports %s beside it on level %d: not in table.go", folder, target, from)
			}
		}
	}
}

func TestLinesOfTheTableAreNeeded(t *testing.T) {
	packages := graph(t)
	for _, folder := range slices.Sorted(maps.Keys(beside)) {
		from, ok := level(folder)
		if !ok {
			t.Errorf("table.go: %s has no level", folder)
		}
		for _, target := range beside[folder] {
			if to, _ := level(target); to != from {
				t.Errorf("table.go: %s and %s are not of one level", folder, target)
			}
			if _, ok := packages[module+folder]; ok && slices.Contains(beside[target], folder) {
				t.Errorf("table.go: %s and %s may import each other", folder, target)
			}
		}
	}
}

func TestModulesAreImportedWhereTheyBelong(t *testing.T) {
	packages := graph(t)
	for _, folder := range own(packages) {
		for _, imp := range packages[module+folder].Imports {
			for _, rule := range directs {
				if !below(imp, rule.pkg) && !strings.HasPrefix(imp, rule.pkg+"/") {
					continue
				}
				if !slices.ContainsFunc(rule.folders, func(f string) bool { return below(folder, f) }) {
					t.Errorf("%s imports %s: %s", folder, imp, rule.why)
				}
			}
		}
	}
}

func TestSmallProgramsStaySmall(t *testing.T) {
	packages := graph(t)
	for _, l := range limits {
		root := module + l.pkg
		if _, ok := packages[root]; !ok {
			t.Errorf("%s is not there", l.pkg)
			continue
		}
		for path, chain := range reach(packages, root) {
			p := packages[path]
			outside := !p.Standard && !strings.HasPrefix(path, module)
			if matches(path, l.denied) || outside && l.only != nil && !matches(path, l.only) {
				t.Errorf("%s links %s, but %s: %s", l.pkg, path, l.why, strings.Join(chain, " -> "))
			}
		}
	}
}

// matches compares import paths; a pattern that ends in a slash is a beginning.
func matches(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		return below(path, p) || strings.HasSuffix(p, "/") && strings.HasPrefix(path, p)
	})
}

// reach finds the shortest chain of imports to everything below root.
func reach(packages map[string]listed, root string) map[string][]string {
	chains := map[string][]string{root: {root}}
	queue := []string{root}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		for _, imp := range packages[path].Imports {
			if _, ok := packages[imp]; !ok || chains[imp] != nil {
				continue
			}
			chains[imp] = append(slices.Clone(chains[path]), imp)
			queue = append(queue, imp)
		}
	}
	return chains
}
