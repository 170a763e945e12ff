package index

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// Restore reads the objects of an earlier daemon, one from each directory below
// root. A directory without the record file is nobody's: orphan clears it away.
// A record that cannot be read is set aside as FILE.broken and reported; neither
// keeps the others from coming back.
func Restore[T any](root, file string, load func(dir string) (T, error), orphan func(dir string) error, log *slog.Logger) ([]T, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	var all []T
	for _, e := range entries {
		dir := filepath.Join(root, e.Name())
		v, err := load(dir)
		switch {
		case errors.Is(err, os.ErrNotExist):
			log.Warn("clearing a directory without record", "dir", dir, "error", orphan(dir))
		case err != nil:
			record := filepath.Join(dir, file)
			log.Error("record set aside", "record", record, "error", err, "rename", os.Rename(record, record+".broken"))
		default:
			all = append(all, v)
		}
	}
	return all, nil
}
