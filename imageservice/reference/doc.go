// Package reference turns the names that people write for images into the one
// form that Berth stores, compares and shows.
//
// Owns: nothing; it is the grammar.
// Always true: a Reference has a registry, a repository and either a tag or a
// digest, never both and never neither, and String parses to the same value.
// The rules are Docker's, as containerd keeps them in its CRI service: a name
// without registry is one of Docker Hub, a name without tag means ":latest",
// and of "name:tag@digest" the digest is what counts and the tag is dropped.
//
// May import: github.com/distribution/reference, which is that grammar.
package reference
