package spec

import (
	"fmt"
	"path"
	"strings"
	"unicode"
)

// maxName bounds names that become part of others; Kubernetes allows 253.
const maxName = 1024

// maxPath is the longest path of a system call (PATH_MAX, with its NUL byte).
const maxPath = 4095

func noNUL(field, v string) error {
	if strings.ContainsRune(v, 0) {
		return invalid(field, v, "contains a NUL byte")
	}
	return nil
}

// name checks the name of a thing.
func name(field, v string) error {
	switch {
	case v == "":
		return invalid(field, v, "missing")
	case len(v) > maxName:
		return invalid(field, v, fmt.Sprintf("%d bytes, %d are allowed", len(v), maxName))
	case strings.ContainsFunc(v, unicode.IsControl):
		return invalid(field, v, "contains a control character")
	}
	return nil
}

// word checks that v fits into one field of a line of a configuration file.
func word(field, v string) error {
	if strings.ContainsFunc(v, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return invalid(field, v, "contains a blank or a control character")
	}
	return nil
}

func optionalPath(field, v string) error {
	if v == "" {
		return nil
	}
	return requiredPath(field, v)
}

func requiredPath(field, v string) error {
	switch {
	case v == "":
		return invalid(field, v, "missing")
	case !path.IsAbs(v):
		return invalid(field, v, "must be an absolute path")
	case len(v) > maxPath:
		return invalid(field, v, fmt.Sprintf("%d bytes, the kernel takes %d", len(v), maxPath))
	}
	return noNUL(field, v)
}
