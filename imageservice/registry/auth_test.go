package registry

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestCredential(t *testing.T) {
	for name, c := range map[string]struct {
		auth *Auth
		want credential
	}{
		"none":                           {nil, credential{}},
		"empty":                          {&Auth{}, credential{}},
		"a username and password":        {&Auth{Username: "u", Password: "p"}, credential{username: "u", password: "p"}},
		"auth":                           {&Auth{Auth: b64("u:p:q")}, credential{username: "u", password: "p:q"}},
		"auth padded with zeros":         {&Auth{Auth: b64("u:p\x00\x00")}, credential{username: "u", password: "p"}},
		"auth without padding":           {&Auth{Auth: strings.TrimRight(b64("u:pp"), "=")}, credential{username: "u", password: "pp"}},
		"the password wins over auth":    {&Auth{Username: "u", Password: "p", Auth: b64("x:y")}, credential{username: "u", password: "p"}},
		"an identity token":              {&Auth{IdentityToken: "i", Auth: b64("x:y")}, credential{identityToken: "i"}},
		"a server by URL":                {&Auth{Username: "u", ServerAddress: "https://R.example:5000/v2/"}, credential{username: "u", server: "r.example:5000"}},
		"Docker Hub's old address":       {&Auth{Username: "u", ServerAddress: "https://index.docker.io/v1/"}, credential{username: "u", server: "docker.io"}},
		"a server with the default port": {&Auth{Username: "u", ServerAddress: "r.example:443"}, credential{username: "u", server: "r.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.auth.credential()
			if err != nil || got != c.want {
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestCredentialRefuses(t *testing.T) {
	for name, auth := range map[string]Auth{
		"auth that is not base64": {Auth: "Zsecret!"},
		"auth without a colon":    {Auth: b64("secret")},
		"a server that is none":   {Username: "u", ServerAddress: "http://"},
		"a huge token":            {RegistryToken: strings.Repeat("x", maxAuth+1)},
		"a token with a newline":  {RegistryToken: "a\r\nX-Evil: 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := auth.credential()
			if !errdefs.IsInvalidArgument(err) || strings.Contains(err.Error(), "secret") {
				t.Error(err)
			}
		})
	}
}

func TestAuthShowsNoSecret(t *testing.T) {
	a := Auth{Username: "alice", Password: "geheim", Auth: b64("alice:geheim"), IdentityToken: "geheim", RegistryToken: "geheim"}
	j, err := json.Marshal(map[string]any{"a": a, "b": &a})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(a), fmt.Sprintf("%v %+v %#v %s", &a, a, a, a), string(j), a.LogValue().String(), a.Key()} {
		if strings.Contains(s, "geheim") || strings.Contains(s, b64("alice:geheim")) {
			t.Error(s)
		}
	}
}

func TestKeyTellsCredentialsApart(t *testing.T) {
	seen := map[string]string{}
	for name, a := range map[string]*Auth{
		"none": nil, "user": {Username: "a"}, "password": {Password: "a"}, "auth": {Auth: "a"},
		"server": {ServerAddress: "a"}, "identity": {IdentityToken: "a"}, "registry": {RegistryToken: "a"},
	} {
		k := a.Key()
		if other, ok := seen[k]; ok {
			t.Errorf("%s and %s have one key", name, other)
		}
		seen[k] = name
	}
	if (&Auth{}).Key() != (*Auth)(nil).Key() {
		t.Error("empty is not anonymous")
	}
}

func TestAllows(t *testing.T) {
	for name, c := range map[string]struct {
		server, registry, endpoint string
		want                       bool
	}{
		"no server: the registry":           {"", "r.example", "https://r.example", true},
		"no server: a mirror":               {"", "r.example", "https://m.example", true},
		"the registry's name":               {"r.example", "r.example", "https://r.example", true},
		"not a mirror":                      {"r.example", "r.example", "https://m.example", false},
		"the mirror's name":                 {"m.example", "r.example", "https://m.example", true},
		"the mirror's is not the registrys": {"m.example", "r.example", "https://r.example", false},
		"Docker Hub by its old name":        {"https://index.docker.io/v1/", "docker.io", "https://registry-1.docker.io", true},
		"Docker Hub's is not a mirror's":    {"https://index.docker.io/v1/", "docker.io", "https://m.example", false},
		"another port is another server":    {"r.example:5000", "r.example", "https://r.example", false},
	} {
		t.Run(name, func(t *testing.T) {
			cred, err := (&Auth{Username: "u", Password: "p", ServerAddress: c.server}).credential()
			if err != nil {
				t.Fatal(err)
			}
			u, err := parseServer(c.endpoint, false)
			if err != nil {
				t.Fatal(err)
			}
			e, err := newEndpoint(c.registry, endpointConfig{url: u})
			if err != nil {
				t.Fatal(err)
			}
			if got := cred.allows(e, c.registry); got != c.want {
				t.Error(got)
			}
		})
	}
}

func TestPickChallenge(t *testing.T) {
	for name, c := range map[string]struct {
		headers []string
		want    string
	}{
		"none":                            {nil, ""},
		"basic":                           {[]string{`Basic realm="x"`}, "basic map[realm:x]"},
		"basic without parameters":        {[]string{`Basic`}, "basic map[]"},
		"bearer":                          {[]string{`Bearer realm="https://a/t",service="s",scope="repository:a/b:pull"`}, "bearer map[realm:https://a/t scope:repository:a/b:pull service:s]"},
		"capitals and spaces":             {[]string{`BEARER Realm = "https://a" , Service=s`}, "bearer map[realm:https://a service:s]"},
		"bearer is better, in one header": {[]string{`Basic realm="x", Bearer realm="https://a"`}, "bearer map[realm:https://a]"},
		"bearer is better, in two":        {[]string{`Basic realm="x"`, `Bearer realm="https://a"`}, "bearer map[realm:https://a]"},
		"others are passed over":          {[]string{`Negotiate, Basic realm="x"`}, "basic map[realm:x]"},
		"a bearer without realm is none":  {[]string{`Bearer service="x"`}, ""},
		"escapes":                         {[]string{`Bearer realm="a\"b"`}, `bearer map[realm:a"b]`},
		"an open quote":                   {[]string{`Bearer realm="a`}, ""},
		"garbage":                         {[]string{`=,=;"`}, ""},
		"too long":                        {[]string{`Basic realm="` + strings.Repeat("x", maxChallenge) + `"`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := pickChallenge(http.Header{"Www-Authenticate": c.headers})
			s := ""
			if ok {
				s = fmt.Sprintf("%s %v", got.scheme, got.params)
			}
			if s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Basic realm="x", Bearer realm="https://a",scope="a b"`)
	f.Add(`Negotiate abc==, Basic`)
	f.Add(`a=b,c="\`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range parseChallenges(s) {
			if c.scheme == "" || strings.ContainsAny(c.scheme, " \",") {
				t.Fatalf("%q: %+v", s, c)
			}
		}
	})
}

func FuzzAuth(f *testing.F) {
	f.Add(b64("u:p"), "https://index.docker.io/v1/", "tok")
	f.Add("====", "::", "\n")
	f.Fuzz(func(t *testing.T, auth, server, token string) {
		a := Auth{Auth: auth, ServerAddress: server, RegistryToken: token}
		c, err := a.credential()
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("an error without kind: %v", err)
			}
			return
		}
		if strings.ContainsAny(c.registryToken, "\r\n") {
			t.Fatalf("%q", c.registryToken)
		}
	})
}
