package selinux

import (
	goselinux "github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
)

// system is what the decisions of this package need of the kernel and the
// policy; tests have another one, since few machines have SELinux.
type system interface {
	Enabled() bool
	// Make returns new labels, with a level of their own unless the options,
	// "user:", "role:", "type:" and "level:", name one. The level is reserved.
	Make(options []string) (process, mount string, err error)
	Check(label string) error // whether the policy knows it
	Reserve(label string)
	Release(label string)
	Relabel(path, label string) error
}

type host struct{}

func (host) Enabled() bool                           { return goselinux.GetEnabled() }
func (host) Make(o []string) (string, string, error) { return label.InitLabels(o) }
func (host) Check(l string) error                    { return goselinux.SecurityCheckContext(l) }

// Reserve: a level that another pod has, too, is shared on purpose.
func (host) Reserve(l string) { _ = goselinux.ReserveLabelV2(l) }

func (host) Release(l string)             { goselinux.ReleaseLabel(l) }
func (host) Relabel(path, l string) error { return label.Relabel(path, l, false) }
