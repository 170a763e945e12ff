package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
)

// maxToken bounds the answer of a token server.
const maxToken = 128 << 10

// authorizer answers the challenges of one endpoint during one pull. It sends
// nothing until it was asked.
type authorizer struct {
	endpoint *endpoint
	cred     credential // zero when this endpoint may not have it
	scope    string     // "repository:library/busybox:pull"

	turn chan struct{} // of one, held while a challenge is answered

	mu     sync.Mutex
	header string // guarded by mu; the Authorization header, once known
}

func newAuthorizer(e *endpoint, scope string) *authorizer {
	return &authorizer{endpoint: e, scope: scope, turn: make(chan struct{}, 1)}
}

// current is the Authorization header to send now.
func (a *authorizer) current() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.header
}

// answer takes the challenge of a 401 to a request that was sent with the
// header used, and finds a better header. Of many requests that run into an
// expired token only the first fetches a new one.
func (a *authorizer) answer(ctx context.Context, resp *http.Response, used string) error {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if a.current() != used {
		return nil
	}
	ch, ok := pickChallenge(resp.Header)
	if !ok {
		return fmt.Errorf("no challenge that Berth can answer, WWW-Authenticate is %.200q: %w",
			resp.Header.Values("WWW-Authenticate"), errdefs.ErrUnauthenticated)
	}
	header, err := a.find(ctx, ch, used)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.header = header
	return nil
}

// find returns the Authorization header that the challenge asks for.
func (a *authorizer) find(ctx context.Context, ch challenge, used string) (string, error) {
	switch {
	case a.cred.registryToken != "" && used != "":
		return "", fmt.Errorf("the registry token was not accepted: %w", errdefs.ErrUnauthenticated)
	case a.cred.registryToken != "":
		return "Bearer " + a.cred.registryToken, nil
	case ch.scheme == "basic":
		return a.basic(used)
	}
	token, err := a.fetchToken(ctx, ch)
	if err != nil {
		return "", fmt.Errorf("token from %s: %w", redact(ch.params["realm"]), err)
	}
	return "Bearer " + token, nil
}

func (a *authorizer) basic(used string) (string, error) {
	switch {
	case a.cred.username == "" && a.cred.password == "":
		return "", fmt.Errorf("a username and password are required: %w", errdefs.ErrUnauthenticated)
	case used != "":
		return "", fmt.Errorf("username or password were not accepted: %w", errdefs.ErrUnauthenticated)
	}
	req := http.Request{Header: http.Header{}}
	req.SetBasicAuth(a.cred.username, a.cred.password)
	return req.Header.Get("Authorization"), nil
}

// fetchToken gets an access token (distribution.github.io/distribution/spec/auth).
func (a *authorizer) fetchToken(ctx context.Context, ch challenge) (string, error) {
	realm, err := a.checkRealm(ch.params["realm"])
	if err != nil {
		return "", err
	}
	scope := ch.params["scope"]
	if scope == "" {
		scope = a.scope
	}
	if a.cred.identityToken != "" {
		return a.postToken(ctx, realm, ch.params["service"], scope)
	}
	q := realm.Query()
	if service := ch.params["service"]; service != "" {
		q.Set("service", service)
	}
	for _, s := range strings.Fields(scope) {
		q.Add("scope", s)
	}
	realm.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return "", err
	}
	if a.cred.username != "" || a.cred.password != "" {
		req.SetBasicAuth(a.cred.username, a.cred.password)
	}
	return a.token(req)
}

func (a *authorizer) postToken(ctx context.Context, realm *url.URL, service, scope string) (string, error) {
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {a.cred.identityToken},
		"client_id": {userAgent}, "service": {service}, "scope": {scope},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return a.token(req)
}

// token sends a token request with the endpoint's TLS settings.
func (a *authorizer) token(req *http.Request) (string, error) {
	req.Header.Set("User-Agent", userAgent)
	client := *a.endpoint.client
	client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		// A POST carries the identity token in its body, which a redirect of
		// 307 or 308 would repeat.
		if next.Method == http.MethodPost && !sameOrigin(next.URL, via[0].URL) {
			return errors.New("redirected to another origin")
		}
		if _, err := a.checkRealm(next.URL.String()); err != nil {
			return err
		}
		return a.endpoint.checkRedirect(next, via)
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", transportError(err)
	}
	defer drain(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", newStatusError(resp)
	}
	body, err := readAll(resp.Body, maxToken)
	if err != nil {
		return "", err
	}
	var t struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return "", fmt.Errorf("the answer is not JSON: %w", errdefs.ErrUnknown)
	}
	if t.Token == "" {
		t.Token = t.AccessToken // OAuth2's name
	}
	if t.Token == "" || strings.ContainsAny(t.Token, "\r\n\x00") {
		return "", fmt.Errorf("the answer holds no token: %w", errdefs.ErrUnknown)
	}
	return t.Token, nil
}

// checkRealm refuses what no token server is. Private addresses are fine:
// companies have their token servers there.
func (a *authorizer) checkRealm(realm string) (*url.URL, error) {
	u, err := url.Parse(realm)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the realm is not a URL: %w", errdefs.ErrUnknown)
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return nil, fmt.Errorf("the realm is not a web address: %w", errdefs.ErrUnknown)
	case u.Scheme == "http" && a.endpoint.url.Scheme == "https":
		return nil, fmt.Errorf("the realm is plain http, the registry https: %w", errdefs.ErrPermissionDenied)
	}
	// The metadata services of clouds live on link-local addresses.
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsLinkLocalUnicast() {
		return nil, fmt.Errorf("the realm is a link-local address: %w", errdefs.ErrPermissionDenied)
	}
	return u, nil
}

// redact leaves out the query, where some servers carry secrets.
func redact(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an invalid URL"
	}
	return u.Scheme + "://" + u.Host + u.Path
}
