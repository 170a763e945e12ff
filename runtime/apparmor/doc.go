// Package apparmor knows the AppArmor of the host: whether containers can be
// confined by it, which profiles are loaded, and the default profile.
//
// Owns: the profile berth-default in the kernel. It stays there when the daemon
// ends, for the containers that go on.
//
// Always true: a profile that was named as the default was loaded at that moment.
//
// May import: errdefs.
package apparmor
