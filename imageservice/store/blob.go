package store

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

func (s *Store) blobPath(d digest.Digest) string { return filepath.Join(s.blobDir(), d.Encoded()) }

// readBlob reads a manifest or config and verifies it.
func (s *Store) readBlob(d digest.Digest) ([]byte, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	fi, err := os.Stat(s.blobPath(d))
	if err != nil {
		return nil, err
	}
	if fi.Size() > atomicfile.MaxRecord {
		return nil, fmt.Errorf("blob %s has %d bytes: %w", d, fi.Size(), errdefs.ErrDataLoss)
	}
	b, err := os.ReadFile(s.blobPath(d))
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(b) != d {
		return nil, fmt.Errorf("blob %s has other content: %w", d, errdefs.ErrDataLoss)
	}
	return b, nil
}

// writeBlob makes a blob durable; one that is there and right stays.
func (s *Store) writeBlob(data []byte) error {
	d := digest.FromBytes(data)
	if _, err := s.readBlob(d); err == nil {
		return nil
	}
	if err := atomicfile.WriteDurable(s.blobPath(d), data, 0o600); err != nil {
		return fmt.Errorf("write blob %s: %w", d, err)
	}
	return nil
}
