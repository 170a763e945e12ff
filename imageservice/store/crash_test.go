package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-cri/berth/fault"
	"github.com/opencontainers/go-digest"
)

type unixStat = syscall.Stat_t

// TestMain is also the process that is killed: with BERTH_STORE_CRASH it does
// the scenario on the root that follows and meets its fate at the armed point.
func TestMain(m *testing.M) {
	name, root, ok := strings.Cut(os.Getenv("BERTH_STORE_CRASH"), ":")
	if !ok {
		os.Exit(m.Run())
	}
	s, err := Open(root, Options{})
	if err == nil {
		err = fault.Arm(os.Getenv(fault.Variable))
	}
	if err == nil {
		err = scenarios[name].run(context.Background(), s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

type scenario struct {
	before, run func(context.Context, *Store) error
	points      []string
}

var commitPoints = []string{
	"layer.commit.before-rename", "layer.settle.before-sync", "layer.settle.before-rename", "layer.settle.after-rename",
	"image.commit.before-record", "image.commit.after-record",
}

// scenarios end in the same state however often they are begun.
var scenarios = map[string]scenario{
	"fresh pull": {
		before: func(context.Context, *Store) error { return nil },
		run:    pulls("a", "base", "a"),
		points: commitPoints,
	},
	"pull that takes a tag away": {
		before: pulls("a", "base", "a"),
		run:    pulls("a", "base", "b"),
		points: append([]string{"image.commit.before-loser"}, commitPoints...),
	},
	"pull that heals a layer": {
		before: func(ctx context.Context, s *Store) error {
			return errors.Join(pulls("a", "base", "a")(ctx, s), os.Remove(filepath.Join(s.layerPath(digest.FromString("base")), "meta.json")))
		},
		run:    pulls("a", "base", "a"),
		points: append([]string{"layer.settle.after-exchange"}, commitPoints...),
	},
	"removal and sweep": {
		before: func(ctx context.Context, s *Store) error {
			return errors.Join(pulls("a", "base", "a")(ctx, s), pulls("b", "base", "b")(ctx, s))
		},
		run: func(ctx context.Context, s *Store) error {
			err := s.Remove(ctx, imageID("base", "b"))
			_, sweepErr := s.Sweep(ctx)
			return errors.Join(err, sweepErr)
		},
		points: []string{"image.remove.after-record", "sweep.before-layer", "sweep.after-layer", "sweep.before-blob"},
	},
}

func pulls(tag string, layers ...string) func(context.Context, *Store) error {
	return func(ctx context.Context, s *Store) error {
		_, err := pull(ctx, s, Image{RepoTags: []string{tag}}, layers...)
		return err
	}
}

func imageID(layers ...string) string {
	_, config := documents(layers)
	return digest.FromBytes(config).String()
}

// Wherever the process is killed: the store opens, what it lists is whole, the
// same request succeeds, and after a sweep the disk is as if nothing had happened.
func TestKill(t *testing.T) {
	kills := 0
	defer func() { t.Logf("killed %d times", kills) }()
	for name, sc := range scenarios {
		want := diskAfter(t, sc)
		for _, point := range sc.points {
			for hit := 1; ; hit++ {
				root := filepath.Join(t.TempDir(), "root")
				ctx, s := context.Background(), open(t, root)
				if err := sc.before(ctx, s); err != nil {
					t.Fatal(err)
				}
				s.Close()
				if !killed(t, name, root, point, hit) {
					if hit == 1 {
						t.Errorf("%s: never comes to %s", name, point)
					}
					break
				}
				kills++
				s = open(t, root)
				checkWhole(t, s)
				if err := sc.run(ctx, s); err != nil {
					t.Fatalf("%s, killed at %s (%d): then: %v", name, point, hit, err)
				}
				checkWhole(t, s)
				if _, err := s.Sweep(ctx); err != nil {
					t.Fatal(err)
				}
				checkDisk(t, s)
				if got := disk(t, root); !slices.Equal(got, want) {
					t.Fatalf("%s, killed at %s (%d):\n%s\nwant\n%s", name, point, hit, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
		}
	}
}

// killed runs the scenario in a process that is killed at the point, and
// reports false when it never got there that often.
func killed(t *testing.T, name, root, point string, hit int) bool {
	t.Helper()
	actions := "kill"
	if hit > 1 {
		actions = fmt.Sprintf("%d*off->kill", hit-1)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BERTH_STORE_CRASH="+name+":"+root, fault.Variable+"="+point+"="+actions)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	t.Fatalf("%s at %s: %v\n%s", name, point, err, out)
	return false
}

func diskAfter(t *testing.T, sc scenario) []string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	ctx, s := context.Background(), open(t, root)
	if err := errors.Join(sc.before(ctx, s)); err != nil {
		t.Fatal(err)
	}
	s = open(t, root)
	if err := sc.run(ctx, s); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	return disk(t, root)
}

func disk(t *testing.T, root string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, strings.TrimPrefix(path, root))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// checkWhole looks at everything that is listed.
func checkWhole(t *testing.T, s *Store) {
	t.Helper()
	names := map[string]string{}
	for _, img := range s.Images() {
		for _, l := range img.Layers {
			if b, err := os.ReadFile(filepath.Join(s.LayerDir(l), "file")); err != nil || digest.FromBytes(b) != l {
				t.Fatalf("image %s is listed, its layer %s is not whole: %v", img.ID, l, err)
			}
		}
		for _, name := range img.Names() {
			if names[name] != "" {
				t.Fatalf("%s belongs to two images", name)
			}
			names[name] = img.ID
			if got, err := s.Lookup(name); err != nil || got.ID != img.ID {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// checkDisk compares the disk with what the store knows, after a sweep with
// nothing in flight.
func checkDisk(t *testing.T, s *Store) {
	t.Helper()
	var blobs, layers, records []string
	for _, img := range s.images {
		records = append(records, strings.TrimPrefix(img.ID, "sha256:")+".json")
		blobs = append(blobs, digest.Digest(img.ID).Encoded(), img.Manifest.Encoded())
	}
	for l := range s.layers {
		layers = append(layers, l.Encoded())
	}
	for dir, want := range map[string][]string{
		s.blobDir(): blobs, s.layersDir(): layers, s.imagesDir(): append(records, "broken"), s.tmpDir(): nil, filepath.Join(s.root, "trash"): nil,
	} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(got, want) {
			t.Fatalf("%s holds\n%q, want\n%q", dir, got, want)
		}
	}
}
