package registry

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
)

// maxAuth bounds a field of Auth; tokens of some clouds are a few KiB.
const maxAuth = 64 << 10

// Auth is the AuthConfig of the CRI. The zero value, like nil, is anonymous.
type Auth struct {
	Username, Password string
	Auth               string // base64 of username:password
	ServerAddress      string // which endpoint it is for; see the package comment
	IdentityToken      string // exchanged for an access token (OAuth2 refresh_token)
	RegistryToken      string // the access token itself
}

// Key tells different credentials apart without holding them.
func (a *Auth) Key() string {
	if a == nil || *a == (Auth{}) {
		return ""
	}
	b, _ := json.Marshal((*plainAuth)(a))
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

type plainAuth Auth

// String keeps secrets out of logs and errors, as LogValue and MarshalJSON do.
func (a Auth) String() string {
	c, err := a.credential()
	if err != nil {
		return "invalid credentials"
	}
	return c.String()
}

func (a Auth) GoString() string             { return a.String() }
func (a Auth) LogValue() slog.Value         { return slog.StringValue(a.String()) }
func (a Auth) MarshalJSON() ([]byte, error) { return json.Marshal(a.String()) }

// credential is the one way to authenticate that an Auth holds.
type credential struct {
	username, password string
	identityToken      string
	registryToken      string
	server             string // host, empty for any
}

func (c credential) anonymous() bool {
	return c.username == "" && c.password == "" && c.identityToken == "" && c.registryToken == ""
}

// String says which credential it is, for traces.
func (c credential) String() string {
	switch {
	case c.registryToken != "":
		return "registry token"
	case c.identityToken != "":
		return "identity token"
	case !c.anonymous():
		return fmt.Sprintf("password of %q", c.username)
	}
	return "anonymous"
}

// credential takes the fields in the order of how directly they grant access.
func (a *Auth) credential() (credential, error) {
	if a == nil {
		return credential{}, nil
	}
	for name, v := range map[string]string{
		"username": a.Username, "password": a.Password, "auth": a.Auth, "server_address": a.ServerAddress,
		"identity_token": a.IdentityToken, "registry_token": a.RegistryToken,
	} {
		if len(v) > maxAuth {
			return credential{}, fmt.Errorf("auth config: %s is longer than %d bytes: %w", name, maxAuth, errdefs.ErrInvalidArgument)
		}
	}
	c := credential{username: a.Username, password: a.Password, identityToken: a.IdentityToken, registryToken: a.RegistryToken}
	if a.Auth != "" && c.anonymous() {
		var err error
		if c.username, c.password, err = parseBasic(a.Auth); err != nil {
			return credential{}, err
		}
	}
	if strings.ContainsAny(c.registryToken, "\r\n\x00") {
		return credential{}, fmt.Errorf("auth config: registry_token has a control character: %w", errdefs.ErrInvalidArgument)
	}
	if a.ServerAddress != "" {
		var err error
		if c.server, err = serverHost(a.ServerAddress); err != nil {
			return credential{}, err
		}
	}
	return c, nil
}

// parseBasic reads the auth field of a Docker config: base64, padded with
// zero bytes by some writers. Never quote it in an error.
func parseBasic(auth string) (username, password string, err error) {
	b, err := base64.StdEncoding.DecodeString(auth)
	if err != nil {
		b, err = base64.RawStdEncoding.DecodeString(auth)
	}
	if err != nil {
		return "", "", fmt.Errorf("auth config: auth is not base64: %w", errdefs.ErrInvalidArgument)
	}
	username, password, ok := strings.Cut(string(b), ":")
	if !ok {
		return "", "", fmt.Errorf("auth config: auth is not the base64 of username:password: %w", errdefs.ErrInvalidArgument)
	}
	return username, strings.TrimRight(password, "\x00"), nil
}

// serverHost reads "registry.example:5000" and "https://index.docker.io/v1/" alike.
func serverHost(address string) (string, error) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("auth config: server_address is not a host or URL: %w", errdefs.ErrInvalidArgument)
	}
	return canonicalHost(u.Host), nil
}

// allows reports whether the credential may be sent to the endpoint; the rule
// is in the package comment.
func (c credential) allows(e *endpoint, registry string) bool {
	return c.server == "" || c.server == canonicalHost(e.url.Host) ||
		!e.mirror && c.server == canonicalHost(registry)
}
