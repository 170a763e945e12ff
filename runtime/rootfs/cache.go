package rootfs

import (
	"container/list"
	"slices"
	"sync"
)

// maxCachedUsers is more images than a node has; an entry is some 500 bytes.
const maxCachedUsers = 512

// userCache remembers resolved users. Layers never change under their names,
// so an answer stays true; the least recently used go first.
type userCache struct {
	mu    sync.Mutex
	byKey map[string]*list.Element // guarded by mu
	order list.List                // of cachedUser, latest first; guarded by mu
}

type cachedUser struct {
	key  string
	user User
}

func (c *userCache) get(key string) (User, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return User{}, false
	}
	c.order.MoveToFront(e)
	u := e.Value.(cachedUser).user
	u.AdditionalGids = slices.Clone(u.AdditionalGids) // the caller may append
	return u, true
}

func (c *userCache) put(key string, u User) {
	u.AdditionalGids = slices.Clone(u.AdditionalGids)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey == nil {
		c.byKey = map[string]*list.Element{}
	}
	if e, ok := c.byKey[key]; ok {
		e.Value = cachedUser{key, u}
		return
	}
	c.byKey[key] = c.order.PushFront(cachedUser{key, u})
	if c.order.Len() > maxCachedUsers {
		oldest := c.order.Back()
		c.order.Remove(oldest)
		delete(c.byKey, oldest.Value.(cachedUser).key)
	}
}
