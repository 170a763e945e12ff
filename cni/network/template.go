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
	m.cidrs.Lock()
	defer m.cidrs.Unlock()
	m.given = cidrs
	w := m.using.Load()
	if w.ConfTemplate == "" || len(cidrs) == 0 || w.BuiltinNetwork {
		return nil
	}
	own := filepath.Join(w.ConfDir, templateFile)
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
	b, err := os.ReadFile(w.ConfTemplate)
	if err != nil {
		return fmt.Errorf("CNI template: %w", err)
	}
	t, err := template.New(filepath.Base(w.ConfTemplate)).Parse(string(b))
	if err != nil {
		return fmt.Errorf("CNI template %s: %w: %w", w.ConfTemplate, err, errdefs.ErrInvalidArgument)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return fmt.Errorf("CNI template %s: %w: %w", w.ConfTemplate, err, errdefs.ErrInvalidArgument)
	}
	if _, err := parseConfList(out.Bytes(), ""); err != nil {
		return fmt.Errorf("CNI template %s makes no usable network: %w", w.ConfTemplate, err)
	}
	if old, err := os.ReadFile(own); err == nil && bytes.Equal(old, out.Bytes()) {
		return nil
	}
	if err := os.MkdirAll(w.ConfDir, 0o755); err != nil {
		return fmt.Errorf("CNI template: %w", err)
	}
	if err := atomicfile.WriteDurable(own, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("CNI template: %w", err)
	}
	m.reload(w)
	return nil
}

// renderAgain follows a change of the template's name, since the kubelet tells the
// addresses only when they change.
func (m *Manager) renderAgain() {
	m.cidrs.Lock()
	cidrs := m.given
	m.cidrs.Unlock()
	if err := m.SetPodCIDR(cidrs); err != nil {
		m.opts.Logger.Error("render the CNI template", "error", err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
