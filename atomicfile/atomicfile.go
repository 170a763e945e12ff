package atomicfile

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// MaxRecord bounds what ReadJSON takes, in bytes. A record that is larger was
// not written by us.
const MaxRecord = 16 << 20

// Write replaces the file by one rename. A crash of the machine may lose it.
func Write(path string, data []byte, perm os.FileMode) error {
	return write(path, data, perm, false)
}

// WriteDurable replaces the file by one rename and returns when both content
// and name are on the disk.
func WriteDurable(path string, data []byte, perm os.FileMode) error {
	return write(path, data, perm, true)
}

func write(path string, data []byte, perm os.FileMode, durable bool) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chmod(perm); err != nil {
		return err
	}
	if durable {
		if err = f.Sync(); err != nil {
			return err
		}
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	if durable {
		return SyncDir(dir)
	}
	return nil
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// WriteJSON writes v for people and jq: indented, newline at the end. Mode 0600,
// since records may hold environment variables.
func WriteJSON(path string, v any) error {
	b, err := encode(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return Write(path, b, 0o600)
}

// WriteJSONDurable is WriteJSON by WriteDurable.
func WriteJSONDurable(path string, v any) error {
	b, err := encode(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return WriteDurable(path, b, 0o600)
}

func encode(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", " ")
	if err == nil && len(b) >= MaxRecord { // nobody could read it again
		err = fmt.Errorf("a record of %d bytes, %d are allowed: %w", len(b), MaxRecord, errdefs.ErrInvalidArgument)
	}
	return append(b, '\n'), err
}

// ReadJSON reads a record into v; a file over MaxRecord bytes is an error.
func ReadJSON(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxRecord+1))
	if err != nil {
		return err
	}
	if len(b) > MaxRecord {
		return fmt.Errorf("read %s: more than %d bytes", path, MaxRecord)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}
