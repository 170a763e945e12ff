package registry

import (
	"slices"

	"github.com/pelletier/go-toml/v2/unstable"
)

// hostOrder lists the keys below [host] as they stand in the file. The decoder
// gives a map, and the order of mirrors means something, so the expressions
// are walked once more. data has been decoded before, so it is valid.
func hostOrder(data []byte, hosts map[string]hostTable) []string {
	var order []string
	seen := func(keys []string) {
		if len(keys) > 1 && keys[0] == "host" && !slices.Contains(order, keys[1]) {
			order = append(order, keys[1])
		}
	}
	var walk func(prefix []string, n *unstable.Node)
	walk = func(prefix []string, n *unstable.Node) {
		keys := append(slices.Clone(prefix), keysOf(n)...)
		seen(keys)
		if v := n.Value(); v.Kind == unstable.InlineTable {
			for it := v.Children(); it.Next(); {
				walk(keys, it.Node())
			}
		}
	}
	var table []string
	var p unstable.Parser
	p.Reset(data)
	for p.NextExpression() {
		switch n := p.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = keysOf(n)
			seen(table)
		case unstable.KeyValue:
			walk(table, n)
		}
	}
	return slices.DeleteFunc(order, func(h string) bool { _, ok := hosts[h]; return !ok })
}

func keysOf(n *unstable.Node) []string {
	var keys []string
	for it := n.Key(); it.Next(); {
		keys = append(keys, string(it.Node().Data))
	}
	return keys
}
