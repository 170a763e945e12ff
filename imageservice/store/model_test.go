package store

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// model is the store as a few maps.
type model struct {
	images map[string]*modelImage            // by id
	layers map[digest.Digest]bool            // on the disk
	holds  map[string]map[digest.Digest]bool // by owner
	recipe map[string][]string               // layers of an image, by id
}

type modelImage struct{ names map[string]bool }

func (m *model) used() map[digest.Digest]bool {
	used := map[digest.Digest]bool{}
	for id := range m.images {
		for _, l := range diffIDs(m.recipe[id]) {
			used[l] = true
		}
	}
	for _, set := range m.holds {
		maps.Copy(used, set)
	}
	return used
}

// Random operations; BERTH_SEED repeats a run.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("BERTH_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("BERTH_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	ctx, root := context.Background(), t.TempDir()
	s := open(t, root)
	m := &model{images: map[string]*modelImage{}, layers: map[digest.Digest]bool{}, holds: map[string]map[digest.Digest]bool{}, recipe: map[string][]string{}}
	recipes := [][]string{{"base", "a"}, {"base", "b"}, {"base", "a", "c"}, {"other"}, {"other", "a"}, {}}

	for step := range 600 {
		recipe := recipes[rnd.IntN(len(recipes))]
		id, name := imageID(recipe...), fmt.Sprintf("r:%d", rnd.IntN(6))
		m.recipe[id] = recipe
		var err error
		what := ""
		switch op := rnd.IntN(100); {
		case op < 35:
			what = "pull"
			_, err = pull(ctx, s, Image{RepoTags: []string{name}}, recipe...)
			for _, l := range diffIDs(recipe) {
				m.layers[l] = true
			}
			for _, img := range m.images {
				delete(img.names, name)
			}
			if m.images[id] == nil {
				m.images[id] = &modelImage{names: map[string]bool{}}
			}
			m.images[id].names[name] = true
		case op < 50:
			what = "remove"
			err = s.Remove(ctx, id)
			delete(m.images, id)
		case op < 60:
			what = "untag"
			err = s.Untag(ctx, name)
			for _, img := range m.images {
				delete(img.names, name)
			}
		case op < 70:
			what = "hold"
			owner := fmt.Sprint("c", rnd.IntN(3))
			s.Hold(owner, diffIDs(recipe))
			if m.holds[owner] == nil {
				m.holds[owner] = map[digest.Digest]bool{}
			}
			for _, l := range diffIDs(recipe) {
				m.holds[owner][l] = true
			}
		case op < 78:
			what = "release"
			owner := fmt.Sprint("c", rnd.IntN(3))
			s.Release(owner)
			delete(m.holds, owner)
		case op < 90:
			what = "sweep"
			_, err = s.Sweep(ctx)
			used := m.used()
			maps.DeleteFunc(m.layers, func(l digest.Digest, _ bool) bool { return !used[l] })
			checkDisk(t, s)
		default:
			what = "reopen"
			s.Close()
			s = open(t, root)
			m.holds = map[string]map[digest.Digest]bool{}
		}
		if err != nil {
			t.Fatalf("step %d, %s of %v: %v", step, what, recipe, err)
		}
		checkWhole(t, s)
		if got, want := shown(s), m.shown(); got != want {
			t.Fatalf("step %d, %s of %v:\n%s\nwant\n%s", step, what, recipe, got, want)
		}
	}
}

// shown is the whole visible state as text.
func shown(s *Store) string {
	var lines []string
	for _, img := range s.Images() {
		lines = append(lines, fmt.Sprint(img.ID, img.Names()))
	}
	for _, l := range slices.Sorted(maps.Keys(s.layers)) {
		lines = append(lines, l.String())
	}
	u := s.Usage()
	lines = append(lines, fmt.Sprint(u.Bytes > 0, u.Inodes))
	return strings.Join(lines, "\n")
}

func (m *model) shown() string {
	var lines []string
	for _, id := range slices.Sorted(maps.Keys(m.images)) {
		lines = append(lines, fmt.Sprint(id, slices.Sorted(maps.Keys(m.images[id].names))))
	}
	for _, l := range slices.Sorted(maps.Keys(m.layers)) {
		lines = append(lines, l.String())
	}
	inodes := 4*len(m.layers) + 3*len(m.images)
	lines = append(lines, fmt.Sprint(inodes > 0, inodes))
	return strings.Join(lines, "\n")
}

// Everybody at once. Pulls must succeed whatever is removed and swept beside them.
func TestConcurrentPullsRemovalsAndSweeps(t *testing.T) {
	ctx, s := context.Background(), open(t, t.TempDir())
	recipes := [][]string{{"base", "a"}, {"base", "b"}, {"base", "a", "c"}}
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			for i := range 15 {
				recipe := recipes[(worker+i)%len(recipes)]
				owner := fmt.Sprint("pull", worker)
				s.Hold(owner, diffIDs(recipe))
				img, err := pull(ctx, s, Image{RepoTags: []string{fmt.Sprint("r:", worker)}}, recipe...)
				if err != nil {
					t.Error(err)
					return
				}
				for _, l := range img.Layers {
					if _, err := os.Stat(s.LayerDir(l) + "/file"); err != nil {
						t.Error(err)
					}
				}
				s.Release(owner)
				if i%3 == 0 {
					if err := s.Remove(ctx, img.ID); err != nil {
						t.Error(err)
					}
				}
				if _, err := s.Lookup(img.ID); err != nil && !errdefs.IsNotFound(err) {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 10 {
				if _, err := s.Sweep(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, s)
	checkDisk(t, s)
}
