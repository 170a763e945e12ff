package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// hosts finds the endpoints of registries in a certs.d directory.
type hosts struct {
	dir string // empty: no configuration

	// mu is held over the reading of the (local, small) files, so that one
	// caller parses and the others find the result.
	mu    sync.Mutex
	known map[string]*hostsEntry // guarded by mu; by registry
}

// hostsEntry is a parsed configuration and the files that it came from.
type hostsEntry struct {
	endpoints []*endpoint
	files     map[string]stamp
}

// stamp changes when a file is replaced or written; zero when it is missing.
type stamp struct {
	mtime, ctime, size int64
	inode              uint64
}

func stampOf(path string) stamp {
	fi, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	s := stamp{mtime: fi.ModTime().UnixNano(), size: fi.Size()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.inode, s.ctime = st.Ino, st.Ctim.Nano()
	}
	return s
}

func (e *hostsEntry) current() bool {
	for path, s := range e.files {
		if stampOf(path) != s {
			return false
		}
	}
	return true
}

// lookup returns the endpoints of a registry, in order. They are shared: so
// pulls one after another use the same connections.
func (h *hosts) lookup(registry string) ([]*endpoint, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.known[registry]; e != nil {
		if e.current() {
			return e.endpoints, nil
		}
		delete(h.known, registry)
		e.close() // running requests go on, only idle connections end
	}
	e, err := h.load(registry)
	if err != nil {
		return nil, err
	}
	if h.known == nil {
		h.known = map[string]*hostsEntry{}
	}
	h.known[registry] = e
	return e.endpoints, nil
}

func (h *hosts) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.known {
		e.close()
	}
	h.known = nil
}

func (e *hostsEntry) close() {
	for _, ep := range e.endpoints {
		ep.client.CloseIdleConnections()
	}
}

// candidates are the names that the directory of a registry may have, in the
// order in which containerd tries them.
func candidates(registry string) []string {
	var names []string
	if i := strings.LastIndexByte(registry, ':'); i > 0 && !strings.HasSuffix(registry, "]") {
		names = append(names, registry[:i]+"_"+registry[i+1:]+"_")
	}
	return append(names, registry, "_default")
}

func (h *hosts) load(registry string) (*hostsEntry, error) {
	e := &hostsEntry{files: map[string]stamp{}}
	configs := []endpointConfig{{resolve: true, pull: true}}
	file := ""
	if h.dir != "" {
		for _, name := range candidates(registry) {
			dir := filepath.Join(h.dir, name)
			e.files[dir] = stampOf(dir) // also when missing: it may appear
			if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
				continue
			}
			file = filepath.Join(dir, "hosts.toml")
			e.files[file] = stampOf(file)
			var err error
			if configs, err = readHostsDir(dir, file); err != nil {
				return nil, err
			}
			break
		}
	}
	for _, c := range configs {
		for _, p := range c.ca {
			e.files[p] = stampOf(p)
		}
		for _, p := range c.clientPairs {
			e.files[p[0]], e.files[p[1]] = stampOf(p[0]), stampOf(p[1])
		}
		ep, err := newEndpoint(registry, c)
		if err != nil {
			return nil, fileError(file, "", err)
		}
		e.endpoints = append(e.endpoints, ep)
	}
	return e, nil
}

func readHostsDir(dir, file string) ([]endpointConfig, error) {
	data, err := readLimited(file, maxHostsFile)
	if errors.Is(err, fs.ErrNotExist) {
		c, err := dockerCertificates(dir)
		if err != nil {
			return nil, fileError(dir, "", err)
		}
		return []endpointConfig{c}, nil
	}
	if err != nil {
		return nil, fileError(file, "", err)
	}
	return parseHostsFile(file, dir, data)
}

// dockerCertificates reads a directory without hosts.toml the way Docker does:
// *.crt are authorities, NAME.cert belongs to NAME.key.
func dockerCertificates(dir string) (endpointConfig, error) {
	c := endpointConfig{resolve: true, pull: true}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return c, err
	}
	for _, e := range entries {
		p := filepath.Join(dir, e.Name())
		switch filepath.Ext(p) {
		case ".crt":
			c.ca = append(c.ca, p)
		case ".cert":
			key := strings.TrimSuffix(p, ".cert") + ".key"
			if _, err := os.Stat(key); err != nil {
				return c, fmt.Errorf("%s has no key beside it: %w", p, err)
			}
			c.clientPairs = append(c.clientPairs, [2]string{p, key})
		}
	}
	return c, nil
}
