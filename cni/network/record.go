package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"

	"github.com/berth-cri/berth/atomicfile"
)

// Record says what a pod was attached to, or was about to be.
type Record struct {
	Version  int          `json:"version"` // 1
	Pod      Pod          `json:"pod"`
	Networks []Attachment `json:"networks"`
	BootID   string       `json:"bootID"` // the boot of the machine it was made in
	Created  time.Time    `json:"created"`
}

// Attachment is one network of a record.
type Attachment struct {
	IfName string `json:"ifName"`
	// Config is the network as ADD was given it. DEL gets the same, whatever has
	// become of the file.
	Config json.RawMessage `json:"config"`
}

// FromEarlierBoot tells whether the machine was rebooted since.
func (r *Record) FromEarlierBoot() bool { return r.BootID != bootID() }

var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
})

func (m *Manager) recordPath(id string) string {
	return filepath.Join(m.opts.StateDir, "attachments", id+".json")
}

func (m *Manager) writeRecord(p Pod, networks []*libcni.NetworkConfigList) (*Record, error) {
	r := &Record{Version: 1, Pod: p, BootID: bootID(), Created: time.Now().UTC()}
	for i, n := range networks {
		r.Networks = append(r.Networks, Attachment{IfName: fmt.Sprintf("eth%d", i), Config: n.Bytes})
	}
	return r, atomicfile.WriteJSON(m.recordPath(p.ID), r)
}

func readRecord(path string) (*Record, error) {
	var r Record
	if err := atomicfile.ReadJSON(path, &r); err != nil {
		return nil, err
	}
	if r.Version != 1 || r.Pod.ID == "" {
		return nil, fmt.Errorf("%s: version %d of pod %q: %w", path, r.Version, r.Pod.ID, errdefs.ErrDataLoss)
	}
	return &r, nil
}

// aside ends the name of a record that could not be read.
const aside = ".broken"

// recorded is what a pod is attached to, nil when it is to nothing. A damaged
// record is put together anew from libcni's cache, which has the configurations
// of ADD too.
func (m *Manager) recorded(p Pod) (*Record, error) {
	path := m.recordPath(p.ID)
	r, err := readRecord(path)
	if err == nil {
		return r, nil
	}
	if _, asideErr := os.Stat(path + aside); isNotExist(err) && isNotExist(asideErr) {
		return nil, nil
	}
	cached, cacheErr := m.using.Load().cni.GetCachedAttachments(p.ID)
	if cacheErr != nil {
		return nil, errors.Join(err, cacheErr)
	}
	m.opts.Logger.Warn("network record is damaged; using what libcni has cached", "pod", p.ID, "networks", len(cached), "error", err)
	r = &Record{Version: 1, Pod: p, BootID: bootID()}
	for _, a := range cached {
		r.Networks = append(r.Networks, Attachment{IfName: a.IfName, Config: a.Config})
	}
	slices.SortFunc(r.Networks, func(a, b Attachment) int { return strings.Compare(a.IfName, b.IfName) })
	return r, nil
}

// Recorded lists what has not been freed. A record that cannot be read is set
// aside, so that it is reported once; the others are returned beside the error.
func (m *Manager) Recorded() ([]Record, error) {
	dir := filepath.Join(m.opts.StateDir, "attachments")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list network records: %w", err)
	}
	var all []Record
	var errs []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		r, err := readRecord(path)
		switch {
		case err == nil:
			all = append(all, *r)
		case errors.Is(err, fs.ErrNotExist): // freed meanwhile
		default:
			errs = append(errs, fmt.Errorf("network record set aside: %w", err), os.Rename(path, path+aside))
		}
	}
	return all, errors.Join(errs...)
}
