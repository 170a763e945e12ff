package registry

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"
)

// maxHostsFile is far above any real hosts.toml.
const maxHostsFile = 1 << 20

// hostsFile is the form of hosts.toml (containerd, docs/hosts.md).
type hostsFile struct {
	Server string `toml:"server"`
	hostTable
	Host map[string]hostTable `toml:"host"`
}

type hostTable struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`     // string or strings
	Client       any            `toml:"client"` // string, strings, or pairs
	SkipVerify   *bool          `toml:"skip_verify"`
	Header       map[string]any `toml:"header"` // string or strings
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
}

// endpointConfig is one checked table of hosts.toml.
type endpointConfig struct {
	url          *url.URL // nil: the registry itself, where it is by default
	resolve      bool
	pull         bool
	skipVerify   bool
	skipSet      bool
	ca           []string    // paths
	clientPairs  [][2]string // paths of certificate and key; the key may be in the first file
	header       http.Header
	overridePath bool
	dialTimeout  time.Duration
}

// parseHostsFile returns the endpoints in the order of the file, the server
// last. dir is what relative paths in it are relative to, file its name in errors.
func parseHostsFile(file, dir string, data []byte) ([]endpointConfig, error) {
	if len(data) > maxHostsFile {
		return nil, fileError(file, "", fmt.Errorf("more than %d bytes", maxHostsFile))
	}
	var f hostsFile
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&f); err != nil {
		return nil, tomlError(file, err)
	}
	var out []endpointConfig
	for _, address := range hostOrder(data, f.Host) {
		key := fmt.Sprintf("host.%q", address)
		if address == "" {
			return nil, fileError(file, key, errors.New("an empty URL"))
		}
		c, err := checkTable(address, dir, f.Host[address])
		if err != nil {
			return nil, fileError(file, key, err)
		}
		out = append(out, c)
	}
	server, err := checkTable(f.Server, dir, f.hostTable)
	if err != nil {
		return nil, fileError(file, "", err)
	}
	return append(out, server), nil
}

// keyError names the key within its table.
type keyError struct {
	key string
	err error
}

func (e keyError) Error() string { return fmt.Sprintf("%s: %v", e.key, e.err) }

func checkTable(address, dir string, t hostTable) (c endpointConfig, err error) {
	if address != "" {
		if c.url, err = parseServer(address, t.OverridePath); err != nil {
			return c, keyError{"server", err}
		}
	}
	c.overridePath = t.OverridePath
	if c.resolve, c.pull, err = parseCapabilities(t.Capabilities); err != nil {
		return c, keyError{"capabilities", err}
	}
	if c.ca, err = stringList(t.CA); err != nil {
		return c, keyError{"ca", err}
	}
	for i, p := range c.ca {
		c.ca[i] = inDir(dir, p)
	}
	if c.clientPairs, err = parseClient(t.Client, dir); err != nil {
		return c, keyError{"client", err}
	}
	if c.header, err = parseHeader(t.Header); err != nil {
		return c, keyError{"header", err}
	}
	if t.SkipVerify != nil {
		c.skipVerify, c.skipSet = *t.SkipVerify, true
	}
	if t.DialTimeout != "" {
		if c.dialTimeout, err = time.ParseDuration(t.DialTimeout); err != nil {
			return c, keyError{"dial_timeout", err}
		}
		if c.dialTimeout <= 0 {
			return c, keyError{"dial_timeout", fmt.Errorf("%s is not above zero", t.DialTimeout)}
		}
	}
	return c, nil
}

// parseServer turns "https://host/path" or "host" into the root of the API there.
func parseServer(address string, overridePath bool) (*url.URL, error) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q: the scheme must be http or https", address)
	case u.Host == "" || u.Hostname() == "":
		return nil, fmt.Errorf("%q: no host", address)
	case u.User != nil:
		return nil, errors.New("a user or password in the URL is not supported, use header")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q: a query or fragment is not supported", address)
	}
	u.Path, u.RawPath = path.Clean("/"+u.Path), ""
	if !overridePath && !strings.HasSuffix(u.Path, "/v2") {
		u.Path = path.Join(u.Path, "v2")
	}
	if u.Path == "/" {
		u.Path = ""
	}
	return u, nil
}

func parseCapabilities(list []string) (resolve, pull bool, err error) {
	if list == nil {
		return true, true, nil
	}
	for _, c := range list {
		switch strings.ToLower(c) {
		case "resolve":
			resolve = true
		case "pull":
			pull = true
		case "push", "referrers": // containerd's, of no meaning to a puller
		default:
			return false, false, fmt.Errorf("%q is none of pull, resolve, push, referrers", c)
		}
	}
	return resolve, pull, nil
}

func parseClient(v any, dir string) ([][2]string, error) {
	var pairs [][2]string
	add := func(cert, key string) error {
		if cert == "" {
			return errors.New("an empty file name")
		}
		p := [2]string{inDir(dir, cert)}
		if key != "" {
			p[1] = inDir(dir, key)
		}
		pairs = append(pairs, p)
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		if v == nil {
			return nil, nil
		}
		list = []any{v}
	}
	for _, item := range list {
		switch item := item.(type) {
		case string:
			if err := add(item, ""); err != nil {
				return nil, err
			}
		case []any:
			s, err := stringList(item)
			if err != nil || len(s) != 2 {
				return nil, fmt.Errorf("%v is not a pair of file names", item)
			}
			if err := add(s[0], s[1]); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%v is neither a file name nor a pair of them", item)
		}
	}
	return pairs, nil
}

func parseHeader(table map[string]any) (http.Header, error) {
	var h http.Header
	for name, v := range table {
		values, err := stringList(v)
		if err != nil {
			return nil, keyError{name, err}
		}
		if !validHeader(name, values) {
			return nil, keyError{name, errors.New("not a valid HTTP header")}
		}
		if h == nil {
			h = http.Header{}
		}
		h[http.CanonicalHeaderKey(name)] = values
	}
	return h, nil
}

func validHeader(name string, values []string) bool {
	isToken := func(r rune) bool {
		return r > ' ' && r < 0x7f && !strings.ContainsRune("()<>@,;:\\\"/[]?={}", r)
	}
	if strings.EqualFold(name, "Host") { // net/http would not send it
		return false
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isToken(r) }) {
		return false
	}
	for _, v := range values {
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return false
		}
	}
	return true
}

func stringList(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		if v == "" {
			return nil, errors.New("an empty string")
		}
		return []string{v}, nil
	case []any:
		out := make([]string, len(v))
		for i, item := range v {
			s, ok := item.(string)
			if !ok || s == "" {
				return nil, fmt.Errorf("%v is not a string, or empty", item)
			}
			out[i] = s
		}
		return out, nil
	}
	return nil, fmt.Errorf("%v is neither a string nor a list of strings", v)
}

func inDir(dir, p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}

func tomlError(file string, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		e := strict.Errors[0]
		row, _ := e.Position()
		return fileError(file, strings.Join(e.Key(), "."), fmt.Errorf("line %d: no such key", row))
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		row, _ := decode.Position()
		return fileError(file, strings.Join(decode.Key(), "."), fmt.Errorf("line %d: %w", row, err))
	}
	return fileError(file, "", err)
}

// fileError is of kind FailedPrecondition: the node is set up wrongly, the
// request is not to blame.
func fileError(file, key string, err error) error {
	if key != "" {
		file += ": " + key
	}
	return fmt.Errorf("registry configuration %s: %w: %w", file, err, errdefs.ErrFailedPrecondition)
}
