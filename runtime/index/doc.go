// Package index finds pods and containers by id, by a unique prefix of the id
// and by name.
//
// Owns: the in-memory tables of the two lifecycles; no file.
// Always true: a lookup by full id is one map access; All is in the order of
// adding; an id or a name is in use once.
//
// May import: the standard library and errdefs.
package index
