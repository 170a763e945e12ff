// Package packaging installs, upgrades, restarts and removes the Debian package on
// a machine of its own, with systemd as PID 1, under pods that count.
//
// Owns: the whole machine: it runs in the VM (make package-test) and nowhere else.
// Always true: what counts is seen from outside: lines of logs, processes, units,
// files, mounts, rules.
//
// May import: anything; nothing imports it.
package packaging
