package streaming

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

const (
	tokenLife = time.Minute // the kubelet comes at once
	maxTokens = 1000        // that nobody has used yet
)

// tokens are streams that were granted and not begun. A token is good once.
type tokens struct {
	mu      sync.Mutex // guards what follows
	granted map[string]grant
}

type grant struct {
	request any // *runtimeapi.ExecRequest and its like
	expires time.Time
}

// add returns the token of a request.
func (t *tokens) add(request any) (string, error) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.granted) >= maxTokens {
		for token, g := range t.granted {
			if now.After(g.expires) {
				delete(t.granted, token)
			}
		}
	}
	if len(t.granted) >= maxTokens {
		return "", fmt.Errorf("%d streams wait for their clients: %w", maxTokens, errdefs.ErrResourceExhausted)
	}
	token := rand.Text()
	t.granted[token] = grant{request, now.Add(tokenLife)}
	return token, nil
}

// take returns the request of a token, which nobody else gets any more; nil when
// there is none.
func (t *tokens) take(token string) any {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, ok := t.granted[token]
	delete(t.granted, token)
	if !ok || time.Now().After(g.expires) {
		return nil
	}
	return g.request
}
