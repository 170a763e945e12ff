package config

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long nothing must have changed before a change counts: editors
// and package managers write a file in several steps.
const quiet = 200 * time.Millisecond

// Watch sends when the file at path (empty: DefaultPath) or its drop-ins have
// changed, until ctx ends. It watches directories, since editors replace files,
// and the one above, which a package may make later. What lies behind symlinks
// is not watched.
func Watch(ctx context.Context, path string) (<-chan struct{}, error) {
	if path == "" {
		path = DefaultPath
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	dropins := filepath.Join(dir, "config.d")
	follow := func() { // of these only some may be there; adding one again does nothing
		for _, d := range []string{filepath.Dir(dir), dir, dropins} {
			_ = w.Add(d)
		}
	}
	follow()
	changed := make(chan struct{}, 1)
	go func() {
		defer w.Close()
		settled := time.NewTimer(time.Hour)
		settled.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-w.Events:
				switch {
				case !ok:
					return
				case e.Name == dir || e.Name == dropins:
					follow()
				case e.Op == fsnotify.Chmod:
					continue // a change of content comes as something else
				case e.Name != path && (filepath.Dir(e.Name) != dropins || !strings.HasSuffix(e.Name, ".toml")):
					continue
				}
				settled.Reset(quiet)
			case <-w.Errors: // a queue that overflowed: something changed
				follow()
				settled.Reset(quiet)
			case <-settled.C:
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}
	}()
	return changed, nil
}
