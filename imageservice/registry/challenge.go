package registry

import (
	"net/http"
	"strings"
)

// challenge is one way to authenticate that a server offers.
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// maxChallenge bounds a WWW-Authenticate header.
const maxChallenge = 16 << 10

// pickChallenge returns the best one that Berth can answer. Servers may offer
// several, in one header or in many ("Negotiate, Basic realm=x").
func pickChallenge(h http.Header) (best challenge, ok bool) {
	for _, line := range h.Values("WWW-Authenticate") {
		for _, c := range parseChallenges(line) {
			if c.scheme == "bearer" && c.params["realm"] != "" {
				return c, true
			}
			if c.scheme == "basic" && !ok {
				best, ok = c, true
			}
		}
	}
	return best, ok
}

// parseChallenges reads a header by RFC 9110, 11.6.1. What it does not
// understand ends the list: the challenges before it are still good.
func parseChallenges(s string) []challenge {
	if len(s) > maxChallenge {
		return nil
	}
	var list []challenge
	for {
		s = strings.TrimLeft(s, " \t,")
		word, rest := token(s)
		if word == "" {
			return list
		}
		s = strings.TrimLeft(rest, " \t")
		if after, isParam := strings.CutPrefix(s, "="); isParam && len(list) > 0 {
			value, rest, ok := paramValue(strings.TrimLeft(after, " \t"))
			if !ok {
				return list
			}
			list[len(list)-1].params[strings.ToLower(word)] = value
			s = rest
			continue
		}
		list = append(list, challenge{scheme: strings.ToLower(word), params: map[string]string{}})
	}
}

// token splits off the longest token at the beginning (RFC 9110, 5.6.2).
func token(s string) (word, rest string) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("()<>@,;:\\\"/[]?={}", c) >= 0 {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

func paramValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		value, rest = token(s)
		return value, rest, value != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false // no closing quote
}
