package embedded

import (
	"path/filepath"
	"strings"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// writable says whether the options of an overlay name an upper directory.
func (o options) writable() bool {
	for _, word := range o.data {
		if strings.HasPrefix(word, "upperdir=") {
			return true
		}
	}
	return false
}

// overlay mounts directories over each other, read-only: an image volume.
func (c *compilation) overlay(target string, o options) error {
	step := &plan.Layers{SubPath: o.subdir, Target: target, Options: c.label(), Changes: o.changes(true)}
	for _, word := range o.data {
		dirs, ok := strings.CutPrefix(word, "lowerdir=")
		if !ok {
			step.Options = append(step.Options, word)
			continue
		}
		for _, dir := range splitLayers(dirs) {
			if !filepath.IsAbs(dir) {
				return invalid("option lowerdir", "has "+dir+", which is not an absolute path")
			}
			step.Lower = append(step.Lower, filepath.Clean(dir))
		}
	}
	if len(step.Lower) == 0 {
		return invalid("options", "have no lowerdir")
	}
	c.addOutside(step)
	return nil
}

// splitLayers splits at colons; one that belongs to a path has a backslash in
// front, as the kernel has it.
func splitLayers(text string) []string {
	var dirs []string
	dir := ""
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			dir += text[i : i+1]
		case text[i] == ':':
			dirs, dir = append(dirs, dir), ""
		default:
			dir += text[i : i+1]
		}
	}
	return append(dirs, dir)
}
