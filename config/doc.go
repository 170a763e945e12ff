// Package config is Berth's configuration: one typed value, read from TOML
// files and command-line flags.
//
// Owns: the names, types, defaults and limits of every setting, and the
// commented default file.
//
// Always true: a Config that Load returned passed Validate, so nobody further
// down checks a setting again; an unknown key or a value that Berth would not
// honour is an error which names file, key and reason, never silence.
//
// Order, later wins: Default, the main file, the drop-ins config.d/*.toml
// beside it in lexical order, flags. Tables merge, lists are replaced.
//
// While a daemon runs: Watch tells of changes, and each key declares by its
// reload tag whether Reloaded takes it up.
//
// May import: the standard library, go-toml and fsnotify.
package config
