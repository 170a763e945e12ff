package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// maxFileSize bounds one file. A configuration is some kilobytes; whatever is
// larger is not one.
const maxFileSize = 1 << 20

// Problem is one thing wrong with the configuration.
type Problem struct {
	File   string // file, or flag such as "--root"; "" when neither gave the key
	Line   int    // 0 when not known
	Key    string // dotted, "" when the file as a whole is meant
	Reason string

	cause error
}

// Unwrap returns the error of the file system, if it was one.
func (p *Problem) Unwrap() error { return p.cause }

func (p *Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Reason)
	return b.String()
}

// Load reads the file at path with its drop-ins, lets the flags win, and
// validates. An empty path means DefaultPath, which need not exist. The error
// joins every Problem found.
func Load(path string, flags Overrides) (*Config, error) {
	required := path != ""
	if !required {
		path = DefaultPath
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c := Default()
	c.origin = map[string]string{}

	var problems []error
	if err := c.readFile(path); err != nil && (required || !errors.Is(err, fs.ErrNotExist)) {
		problems = append(problems, err)
	}
	// Glob sorts; its only error is a bad pattern, which a path with meta
	// characters could make: so list the directory instead.
	dropins, err := listTOML(filepath.Join(filepath.Dir(path), "config.d"))
	if err != nil {
		problems = append(problems, err)
	}
	for _, file := range dropins {
		if err := c.readFile(file); err != nil {
			problems = append(problems, err)
		}
	}
	if err := flags.apply(c); err != nil {
		problems = append(problems, err)
	}
	c.complete()
	if err := c.Validate(); err != nil {
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return c, nil
}

// listTOML returns the drop-ins of dir in lexical order.
func listTOML(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(dir, err)
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}

// readFile lets one file override what is set so far.
func (c *Config) readFile(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return unreadable(file, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return unreadable(file, err)
	}
	c.files = append(c.files, file)
	return c.decode(file, data)
}

// decode reads TOML over what is set so far.
func (c *Config) decode(file string, data []byte) error {
	if len(data) > maxFileSize {
		return &Problem{File: file, Reason: fmt.Sprintf("larger than %d bytes", maxFileSize)}
	}
	// A look without types first, for which keys this file sets.
	var keys map[string]any
	if err := toml.Unmarshal(data, &keys); err != nil {
		return errors.Join(decodeProblems(file, err)...)
	}
	c.note(file, "", keys)

	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(c)
	var located *toml.DecodeError
	var missing *toml.StrictMissingError
	if err != nil && !errors.As(err, &located) && !errors.As(err, &missing) {
		// The library does not say where a number stands that should have been
		// the text of a duration, size or limit.
		return &Problem{File: file, Key: culprit(keys, nil), Reason: err.Error()}
	}
	return errors.Join(decodeProblems(file, err)...)
}

// culprit finds the first key that cannot be decoded on its own. Path leads to
// the table.
func culprit(table map[string]any, path []string) string {
	for _, k := range sortedKeys(table) {
		here := append(slices.Clone(path), k)
		if sub, ok := table[k].(map[string]any); ok {
			if key := culprit(sub, here); key != "" {
				return key
			}
			continue
		}
		alone := map[string]any{k: table[k]}
		for _, outer := range slices.Backward(path) {
			alone = map[string]any{outer: alone}
		}
		text, err := toml.Marshal(alone)
		if err != nil || toml.Unmarshal(text, &Config{}) != nil {
			return strings.Join(here, ".")
		}
	}
	return ""
}

// decodeProblems says what the decoder found, one problem per place.
func decodeProblems(file string, err error) []error {
	if err == nil {
		return nil
	}
	var missing *toml.StrictMissingError
	if errors.As(err, &missing) {
		var all []error
		for i := range missing.Errors {
			e := &missing.Errors[i]
			line, _ := e.Position()
			all = append(all, &Problem{File: file, Line: line, Key: strings.Join(e.Key(), "."), Reason: "unknown key"})
		}
		return all
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		line, _ := bad.Position()
		return []error{&Problem{
			File: file, Line: line, Key: strings.Join(bad.Key(), "."),
			Reason: strings.TrimPrefix(bad.Error(), "toml: "),
		}}
	}
	return []error{&Problem{File: file, Reason: err.Error()}}
}

// note remembers where the keys of a table come from.
func (c *Config) note(file, prefix string, table map[string]any) {
	if c.origin == nil {
		c.origin = map[string]string{}
	}
	for k, v := range table {
		key := prefix + k
		c.origin[key] = file
		if sub, ok := v.(map[string]any); ok {
			c.note(file, key+".", sub)
		}
	}
}

// complete puts in what depends on other settings.
func (c *Config) complete() {
	c.Listen = trimScheme(c.Listen)
	if c.Listen == "" {
		c.Listen = filepath.Join(c.State, "berth.sock")
	}
}

// unreadable names the path once: the Problem does, so the cause need not.
func unreadable(path string, err error) error {
	why := err
	var pe *fs.PathError
	if errors.As(err, &pe) {
		why = pe.Err
	}
	return &Problem{File: path, Reason: "cannot be read: " + why.Error(), cause: err}
}

func trimScheme(listen string) string { return strings.TrimPrefix(listen, "unix://") }
