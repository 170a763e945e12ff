package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"

	"github.com/containerd/errdefs"

	"github.com/berth-cri/berth/atomicfile"
)

// templateFile is what SetPodCIDR writes in ConfDir: early, but after what an
// administrator calls 00-….
const templateFile = "10-berth-net.conflist"

// templateData are the names that containerd's conf_template has.
type templateData struct {
	PodCIDR       string   // the first
	PodCIDRRanges []string // all
	Routes        []string // the default route of each family
}

// SetPodCIDR takes the addresses that Kubernetes has given this node. Where a
// template is configured and there is no network yet, one is made of it.
func (m *Manager) SetPodCIDR(cidrs []string) error {
	if m.opts.ConfTemplate == "" || len(cidrs) == 0 || m.opts.BuiltinNetwork {
		return nil
	}
	m.cidrs.Lock()
	defer m.cidrs.Unlock()
	own := filepath.Join(m.opts.ConfDir, templateFile)
	if m.ready() && !exists(own) {
		return nil // somebody else's network
	}
	data := templateData{PodCIDR: cidrs[0], PodCIDRRanges: cidrs}
	seen := map[bool]bool{}
	for _, c := range cidrs {
		p, err := netip.ParsePrefix(c)
		if err != nil {
			return fmt.Errorf("pod CIDR: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		if is4 := p.Addr().Is4(); !seen[is4] {
			seen[is4] = true
			data.Routes = append(data.Routes, map[bool]string{true: "0.0.0.0/0", false: "::/0"}[is4])
		}
	}
	b, err := os.ReadFile(m.opts.ConfTemplate)
	if err != nil {
		return fmt.Errorf("CNI template: %w", err)
	}
	t, err := template.New(filepath.Base(m.opts.ConfTemplate)).Parse(string(b))
	if err != nil {
		return fmt.Errorf("CNI template %s: %w: %w", m.opts.ConfTemplate, err, errdefs.ErrInvalidArgument)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return fmt.Errorf("CNI template %s: %w: %w", m.opts.ConfTemplate, err, errdefs.ErrInvalidArgument)
	}
	if _, err := parseConfList(out.Bytes(), ""); err != nil {
		return fmt.Errorf("CNI template %s makes no usable network: %w", m.opts.ConfTemplate, err)
	}
	if old, err := os.ReadFile(own); err == nil && bytes.Equal(old, out.Bytes()) {
		return nil
	}
	if err := os.MkdirAll(m.opts.ConfDir, 0o755); err != nil {
		return fmt.Errorf("CNI template: %w", err)
	}
	if err := atomicfile.WriteDurable(own, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("CNI template: %w", err)
	}
	m.reload()
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
